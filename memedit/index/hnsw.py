"""Hierarchical navigable small-world graph (Malkov and Yashunin 2016) over 8-bit codes, re-scored exactly."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from memedit.errors import InputError, VectorIndexError
from memedit.index.approximate import ApproximateIndex, RowArray
from memedit.index.faiss_module import faiss_module
from memedit.types import FloatArray

_TRAINING_ROWS = 65_536
_LIMITS = {"links": (4, 128), "ef_construction": (8, 2000), "ef_search": (8, 2000)}


class HNSWIndex(ApproximateIndex):
    """Graph search; the vectors in the graph are 8-bit codes, the best candidates are scored again in float32.

    Grows one by one without ever training anew, but takes many times as long to build as ``ivf``. Memory: 5 d + 8 links
    + about 150 bytes a vector (2.3 GB for a million of width 384).

    Args:
        links: edges of a node on each level (M of the paper); twice as many on the lowest.
        ef_construction: candidates kept while a node is linked in.
        ef_search: candidates kept while searching (at least 2 k).

    Raises:
        InputError: an option is out of range.
    """

    kind: ClassVar[str] = "hnsw"

    def __init__(
        self,
        dimension: int,
        *,
        links: int = 24,
        ef_construction: int = 80,
        ef_search: int = 128,
        exact_below: int = 10_000,
    ) -> None:
        super().__init__(dimension, exact_below=exact_below)
        given = {"links": links, "ef_construction": ef_construction, "ef_search": ef_search}
        for name, value in given.items():
            least, most = _LIMITS[name]
            if not least <= value <= most:
                raise InputError(f"{name}={value} is outside {least}..{most}")
        self._given = given
        self._index: Any = None

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that make an equal empty index."""
        return {**self._given, "exact_below": self._exact_below}

    def _build(self, vectors: FloatArray) -> None:
        faiss = faiss_module()
        index = faiss.IndexHNSWSQ(
            self._dimension, faiss.ScalarQuantizer.QT_8bit, self._given["links"], faiss.METRIC_INNER_PRODUCT
        )
        index.hnsw.efConstruction = self._given["ef_construction"]
        index.train(vectors[:: max(1, len(vectors) // _TRAINING_ROWS)])
        index.add(vectors)
        self._index = index

    def _insert(self, rows: RowArray) -> None:
        self._index.add(self._store.vectors[rows])

    def _candidates(self, queries: FloatArray, k: int, widen: int) -> RowArray:
        faiss = faiss_module()
        kept = min(self._index.ntotal, max(self._given["ef_search"], 2 * k) * widen)
        _, rows = self._index.search(queries, kept, params=faiss.SearchParametersHNSW(efSearch=kept))
        return rows

    def _structure(self) -> NDArray[np.uint8]:
        faiss = faiss_module()
        return faiss.serialize_index(self._index)

    def _adopt(self, structure: NDArray[np.uint8]) -> None:
        faiss = faiss_module()
        index = faiss.deserialize_index(structure)
        if not isinstance(index, faiss.IndexHNSWSQ) or index.ntotal != self._store.used:
            raise VectorIndexError(f"holds a {type(index).__name__} of {index.ntotal} rows, not what was saved")
        self._index = index
