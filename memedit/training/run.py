"""Training by name: what the command line, a script or a notebook calls."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memedit.config.overrides import with_overrides

Progress = Callable[[int, int], None]


def train(
    part: str,
    *,
    model: str,
    data: Sequence[str],
    whole: Sequence[str] = (),
    out: Path,
    encoder: str = "minilm",
    overrides: Mapping[str, str] | None = None,
    start: Path | None = None,
    checkpoint_every: int = 50,
    resume: bool = True,
    progress: Progress | None = None,
) -> Any:
    """Train the reader, the RECIPE network or SERAC's counterfactual model, and return its report.

    Args:
        part: reader, recipe or serac.
        model: the frozen base model: alias, path or hub id.
        data: files of records of which the training half is used (``path:N``: of the first N rows).
        whole: files of records of which every row is used.
        out: folder to write to; checkpoints are kept there too.
        encoder: sentence encoder under RECIPE's knowledge encoder.
        start: folder of a trained reader or RECIPE network to go on from.
        overrides: settings by name, see :func:`~memedit.config.overrides.with_overrides`.
        checkpoint_every: steps between checkpoints.
        resume: go on from a checkpoint of the same run.
        progress: called with (step, steps).

    Raises:
        DatasetError: a file cannot be read or holds no training rows.
        InputError: a setting is wrong, or ``out`` holds a checkpoint of another run.
    """
    from memedit.models import load_model

    common: dict[str, Any] = {
        "data": [*data],
        "out": out,
        "checkpoint_every": checkpoint_every,
        "resume": resume,
        "progress": None if progress is None else lambda state: progress(state.step, state.steps),
    }
    settings = with_overrides(_settings(part), overrides or {})
    base = load_model(model)
    if part == "reader":
        from memedit.training.reader.run import train_reader

        return train_reader(base, **common, whole=[*whole], settings=settings, start=start)
    if part == "recipe":
        from memedit.training.recipe.run import train_recipe

        return train_recipe(base, **common, whole=[*whole], settings=settings, encoder=encoder, start=start)
    from memedit.training.serac.run import train_serac

    return train_serac(base, **common, whole=[*whole], settings=settings)


def _settings(part: str) -> Any:
    if part == "reader":
        from memedit.training.reader.trainer import ReaderSettings

        return ReaderSettings()
    if part == "recipe":
        from memedit.training.recipe.trainer import RecipeSettings

        return RecipeSettings()
    from memedit.training.serac.trainer import SeracSettings

    return SeracSettings()
