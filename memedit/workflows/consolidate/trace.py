"""Causal tracing by name of a model, over one's own prompts or facts that most models know."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memedit.consolidation.base import EditRequest
from memedit.errors import InputError
from memedit.whole_files import write_text

FACTS = (
    ("The capital of France is the city of", "France"),
    ("The Eiffel Tower is located in the city of", "The Eiffel Tower"),
    ("The official language of Brazil is", "Brazil"),
    ("William Shakespeare was a famous English", "William Shakespeare"),
    ("Albert Einstein is best known for the theory of", "Albert Einstein"),
    ("The currency of Japan is called the", "Japan"),
    ("The Great Wall is located in the country of", "The Great Wall"),
    ("Mount Everest is the highest mountain in the", "Mount Everest"),
    ("The author of Harry Potter is J. K.", "Harry Potter"),
    ("Microsoft was founded by Bill", "Microsoft"),
    ("The Statue of Liberty stands in New", "The Statue of Liberty"),
    ("Leonardo da Vinci painted the Mona", "Leonardo da Vinci"),
)
"""Prompts and subjects of facts that small models know too; written for this purpose."""


def trace_model(
    model: str,
    *,
    prompts: Path | None = None,
    facts: int | None = None,
    noise: float = 3.0,
    window: int | None = None,
    seed: int = 0,
    report: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Trace facts through a model and propose layers for edits.

    Args:
        model: alias, path or hub id.
        prompts: file of edits in any known form, whose prompts and subjects are traced; :data:`FACTS` when absent.
        facts: most prompts traced.
        noise, window, seed: see :func:`~memedit.consolidation.trace.trace_layers`.
        report: file of the HTML page that the heat maps are drawn on.
        progress: called with (prompts done, prompts).

    Returns:
        a JSON-able mapping with the mean effects, the layers proposed, and those the model's shape proposes.

    Raises:
        InputError: no prompt can be traced, or the report cannot be written.
    """
    from memedit.consolidation.trace import PLACES, trace_layers
    from memedit.evaluation.report.trace_page import trace_page
    from memedit.models import ModelSpec, load_model

    loaded = load_model(model)
    found = trace_layers(loaded, requests_of(prompts)[:facts], noise=noise, window=window, seed=seed, progress=progress)
    if report is not None:
        try:
            write_text(report, trace_page(found, loaded.name))
        except OSError as error:
            raise InputError(f"the heat maps cannot be written to {report}: {error}") from error
    return {
        **asdict(found),
        "effects": {kind: values.round(5).tolist() for kind, values in found.effects.items()},
        "places": list(PLACES),
        "layers_by_shape": list(ModelSpec.of(loaded.model).consolidation_layers()),
        "report": None if report is None else str(report),
    }


def requests_of(prompts: Path | None) -> list[EditRequest]:
    """Return the prompts of a file of edits that name their subject; those of :data:`FACTS` where there is none."""
    if prompts is None:
        return [EditRequest(f"fact-{i}", prompt, "?", subject) for i, (prompt, subject) in enumerate(FACTS)]
    from memedit.memory.formats import read_drafts

    drafts = read_drafts(prompts, "auto").drafts
    return [
        EditRequest(f"{i}", draft.prompt, draft.target, draft.subject)
        for i, draft in enumerate(drafts)
        if draft.subject
    ]
