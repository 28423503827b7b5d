"""The adapters by name; other packages offer theirs as entry points of the group ``memedit.adapters``."""

from typing import Any

from memedit.adapters.base import Adapter
from memedit.errors import InputError
from memedit.registry import Registry

ADAPTERS: Registry[Any] = Registry("adapter", group="memedit.adapters")
ADAPTERS.register("in_context", "memedit.adapters.in_context.adapter:InContextAdapter")
ADAPTERS.register("reader", "memedit.adapters.reader.adapter:ReaderAdapter")
ADAPTERS.register("recipe", "memedit.adapters.recipe.adapter:RecipeAdapter")
ADAPTERS.register("elder", "memedit.adapters.elder.adapter:ElderAdapter")
ADAPTERS.register("mend", "memedit.adapters.hypernet.adapter:MendAdapter")
ADAPTERS.register("propmend", "memedit.adapters.hypernet.adapter:PropMendAdapter")
ADAPTERS.register("knowledge_editor", "memedit.adapters.hypernet.adapter:KnowledgeEditorAdapter")
ADAPTERS.register("grace", "memedit.adapters.grace.adapter:GraceAdapter")
ADAPTERS.register("neurons", "memedit.adapters.neurons.adapter:NeuronsAdapter")
ADAPTERS.register("serac", "memedit.adapters.serac.adapter:SeracAdapter")


def create_adapter(name: str, model: Any, tokenizer: Any, **options: Any) -> Adapter:
    """Make the adapter registered as ``name`` for a model and its tokenizer.

    ``"default"`` is the reader shipped for this model where there is one, else ``"in_context"``.

    Raises:
        UnknownNameError: no adapter of this name; the message lists near matches.
        InputError: the adapter does not take one of the options.
        FingerprintMismatchError: trained weights were made for another model.
    """
    chosen = default_adapter(model, tokenizer) if name == "default" else name
    factory = ADAPTERS.get(chosen)
    try:
        made: Adapter = factory(model, tokenizer, **options)
    except TypeError as error:
        raise InputError(f"adapter {chosen!r} does not take these options {sorted(options)}: {error}") from error
    return made


def default_adapter(model: Any, tokenizer: Any) -> str:
    """Return the name that ``"default"`` stands for with this model."""
    from memedit.adapters.reader.adapter import find_shipped

    return "in_context" if find_shipped(model, tokenizer) is None else "reader"
