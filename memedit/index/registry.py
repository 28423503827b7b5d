"""The vector indexes by name."""

from pathlib import Path
from typing import Any

from memedit.errors import IndexCorruptError, InputError, MissingExtraError
from memedit.index.common import BaseIndex
from memedit.index.storage import IndexManifest, open_payload
from memedit.registry import Registry

INDEXES: Registry[type[BaseIndex]] = Registry("vector index")
INDEXES.register("exact", "memedit.index.exact:ExactIndex")
INDEXES.register("flat", "memedit.index.flat:FlatIndex")
INDEXES.register("hnsw", "memedit.index.hnsw:HNSWIndex")
INDEXES.register("ivf", "memedit.index.ivf:IVFIndex")
INDEXES.register("gpu", "memedit.index.gpu:GPUIndex")
INDEXES.register("pgvector", "memedit.index.pgvector:PgvectorIndex")
INDEXES.register("pgvector-hnsw", "memedit.index.pgvector:PgvectorHNSWIndex")


def create_index(kind: str, dimension: int, **options: Any) -> BaseIndex:
    """Return an empty index of a registered kind for vectors of width ``dimension``.

    Raises:
        UnknownNameError: no such kind; the message lists near matches.
        InputError: ``dimension`` or an option cannot be used.
        MissingExtraError: the kind needs a package that is not installed.
    """
    index_class = INDEXES.get(kind)
    try:
        return index_class(dimension, **options)
    except TypeError as error:
        raise InputError(f"vector index {kind!r} does not take these options {sorted(options)}: {error}") from error


def load_index(path: str | Path) -> BaseIndex:
    """Load an index saved by :meth:`VectorIndex.save`; its manifest says which kind it is.

    Raises:
        FileNotFoundError: there is no manifest at ``path``.
        IndexCorruptError: a file is missing, truncated, altered, or contradicts the manifest.
    """
    path = Path(path)
    with open_payload(path) as (manifest, payload):
        index = _restore(manifest, payload, path)
    if len(index) != manifest.count:
        raise IndexCorruptError(
            f"{path}: the file holds {len(index)} vectors, its manifest says {manifest.count}; "
            "rebuild the index from the store"
        )
    return index


def _restore(manifest: IndexManifest, payload: Path, path: Path) -> BaseIndex:
    try:
        index = INDEXES.get(manifest.kind)(manifest.dimension, **manifest.options)
        index.read(payload)
    except MissingExtraError:
        raise
    except Exception as error:  # each library reports damage in its own way
        raise IndexCorruptError(f"{path}: {type(error).__name__}: {error}; rebuild the index from the store") from error
    return index
