"""FAISS's exact inner-product index: the default."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from memedit.errors import IndexCorruptError
from memedit.index.base import IdArray
from memedit.index.common import BaseIndex
from memedit.index.faiss_module import faiss_module
from memedit.types import FloatArray


class FlatIndex(BaseIndex):
    """``IndexFlatIP`` under ``IndexIDMap2``: exact, no training, about 4 d + 100 bytes a vector.

    ``IndexIDMap2`` because ``remove_ids`` on a bare flat index shifts the ids of all later rows.
    """

    kind: ClassVar[str] = "flat"

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self._index = self._empty()
        self._present: set[int] = set()

    def _empty(self) -> Any:
        faiss = faiss_module()
        return faiss.IndexIDMap2(faiss.IndexFlatIP(self._dimension))

    def __len__(self) -> int:
        return len(self._present)

    def _add(self, ids: IdArray, vectors: FloatArray) -> None:
        keys = ids.tolist()
        replaced = self._present.intersection(keys)
        if replaced:
            self._index.remove_ids(np.fromiter(replaced, dtype=np.int64, count=len(replaced)))
        self._index.add_with_ids(vectors, ids)
        self._present.update(keys)

    def _remove(self, ids: IdArray) -> int:
        there = self._present.intersection(ids.tolist())
        if there:
            self._index.remove_ids(np.fromiter(there, dtype=np.int64, count=len(there)))
            self._present -= there
        return len(there)

    def _search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        scores, ids = self._index.search(queries, k)
        return scores, ids

    def write(self, payload: Path) -> None:
        """Write FAISS's own file."""
        faiss = faiss_module()
        faiss.write_index(self._index, str(payload))

    def read(self, payload: Path) -> None:
        """Fill from FAISS's own file."""
        faiss = faiss_module()
        index = faiss.read_index(str(payload))
        if not isinstance(index, faiss.IndexIDMap2) or index.d != self._dimension:
            raise IndexCorruptError(f"{payload} holds a {type(index).__name__} of width {index.d}, not what was saved")
        self._index = index
        self._present = set(faiss.vector_to_array(index.id_map).tolist())
