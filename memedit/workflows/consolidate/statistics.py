"""Key statistics by name of a model, from a user's text, a hub data set, or the model's own samples."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from memedit.consolidation.base import ConsolidationSettings
from memedit.errors import InputError, MissingExtraError


def build(
    model: str,
    *,
    texts: Sequence[Path] = (),
    dataset: str | None = None,
    settings: ConsolidationSettings | None = None,
    tokens: int = 100_000,
    store: Path | None = None,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Gather the key statistics of a model's edited layers, or find them gathered.

    Args:
        model: alias, path or hub id.
        texts: plain text files.
        dataset: a hub data set with a ``text`` column, as ``NAME`` or ``NAME:CONFIG`` (needs a reachable hub).
        settings: whose layers; the model's own proposal when absent.
        tokens, store, resume, progress: see :func:`~memedit.consolidation.statistics.build_statistics`.

    Returns:
        a JSON-able mapping: what they were made from, and for each layer the keys seen and how their energy is spread.

    Raises:
        InputError: both texts and a data set are given, or a file cannot be read.
        MissingExtraError: a data set is asked for, but the ``datasets`` package is not installed.
    """
    from memedit.consolidation.statistics import build_statistics
    from memedit.models import load_model

    if texts and dataset:
        raise InputError("give text files or a data set, not both")
    settings = settings or ConsolidationSettings()
    documents: list[str] | None = None
    if texts:
        documents = [_read(path) for path in texts]
    elif dataset:
        documents = list(_hub_texts(dataset, tokens))
    found = build_statistics(
        load_model(model), settings, documents, store=store, tokens=tokens, resume=resume, progress=progress
    )
    layers = {
        str(layer): {
            "keys": moments.count,
            "mean_eigenvalue": moments.scale,
            "largest_eigenvalue": float(moments.values[-1]),
            "null_space": int(moments.null_space(settings.null_space_threshold).shape[1]),
            "width": len(moments.values),
        }
        for layer, moments in found.layers.items()
    }
    return {"key": found.key, "source": found.source, "base": found.base, "layers": layers}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _hub_texts(name: str, tokens: int) -> Iterator[str]:
    """Yield documents of a hub data set, some more than are needed (a token has about four characters)."""
    try:
        import datasets  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise MissingExtraError("datasets", "eval") from error
    path, _, config = name.partition(":")
    rows = datasets.load_dataset(path, config or None, split="train", streaming=True)
    total = 0
    for row in rows:
        text = str(row.get("text", ""))
        if not text and "text" not in row:
            raise InputError(f"the data set {name!r} has no column 'text'; its columns: {', '.join(sorted(row))}")
        yield text
        total += len(text)
        if total > 8 * tokens:
            return
