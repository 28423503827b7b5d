"""Inverted file with product-quantised codes, re-scored exactly: the index for a million edits.

Jégou et al. 2011 (product quantisation, IVFADC); codes are scanned in registers as in André et al. 2017 ("fast scan").
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from memedit.errors import InputError, VectorIndexError
from memedit.index.approximate import ApproximateIndex, RowArray
from memedit.index.faiss_module import faiss_module
from memedit.types import FloatArray

_POINTS_PER_CELL = 64
_CODEBOOK_POINTS = 65_536
_ITERATIONS = 10
_LEAST_ROWS = 64  # codebooks of 16 entries cannot be trained on fewer; looking at all is quicker anyway
_GROWTH = 4
"""The structure is trained anew when there are this many times the rows that it was trained for."""


class IVFIndex(ApproximateIndex):
    """Cells found by two-level k-means, 4-bit codes of 4 dimensions each inside them, float32 vectors for re-scoring.

    Trains itself: exact up to ``exact_below`` vectors, then ``4 sqrt(n)`` cells, anew whenever the rows have grown
    fourfold. Memory: 4 d + d / 8 + about 150 bytes a vector (1.8 GB for a million of width 384).

    Args:
        probes: share of the cells that a search looks into, in (0, 1].
        exact_below: number of vectors up to which every vector is looked at (at least 64).
        rescore: candidates scored exactly for each query (at least 4 k).
        seed: of the clustering.

    Raises:
        InputError: an option is out of range.
    """

    kind: ClassVar[str] = "ivf"

    def __init__(
        self, dimension: int, *, probes: float = 1 / 32, rescore: int = 256, exact_below: int = 10_000, seed: int = 0
    ) -> None:
        super().__init__(dimension, exact_below=max(exact_below, _LEAST_ROWS) if exact_below >= 0 else exact_below)
        if not 0 < probes <= 1 or rescore < 1:
            raise InputError(f"probes={probes} must lie in (0, 1] and rescore={rescore} be at least 1")
        self._probes, self._rescore, self._seed = probes, rescore, seed
        self._trained_for = 0
        self._index: Any = None

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that make an equal empty index."""
        return {
            "probes": self._probes,
            "rescore": self._rescore,
            "exact_below": self._exact_below,
            "seed": self._seed,
        }

    def _build(self, vectors: FloatArray) -> None:
        faiss = faiss_module()
        n = len(vectors)
        cells = max(1, min(int(4 * math.sqrt(n)), n // 8))
        rng = np.random.default_rng(self._seed)
        centroids = two_level_kmeans(_sample(vectors, cells * _POINTS_PER_CELL, rng), cells, self._seed)
        quantizer = faiss.IndexFlatIP(self._dimension)
        quantizer.add(centroids)
        index = faiss.IndexIVFPQFastScan(
            quantizer, self._dimension, len(centroids), _subquantizers(self._dimension), 4, faiss.METRIC_INNER_PRODUCT
        )
        index.by_residual = False
        index.pq.cp.seed = self._seed
        index.pq.cp.min_points_per_centroid = 1  # fewer than it likes is fine for small memories, and warns on stderr
        index.train(_sample(vectors, _CODEBOOK_POINTS, rng))
        index.add(vectors)
        self._index, self._quantizer, self._trained_for = index, quantizer, n

    def _insert(self, rows: RowArray) -> None:
        self._index.add(self._store.vectors[rows])

    def _candidates(self, queries: FloatArray, k: int, widen: int) -> RowArray:
        faiss = faiss_module()
        cells = self._index.nlist
        probes = min(cells, max(1, math.ceil(cells * self._probes)) * widen)
        wanted = max(self._rescore, 4 * k) * widen
        if wanted >= self._index.ntotal:  # fast scan can drop the very last ones, whose codes score the least possible
            return np.tile(np.arange(self._index.ntotal), (len(queries), 1))
        _, rows = self._index.search(queries, wanted, params=faiss.SearchParametersIVF(nprobe=probes))
        return rows

    def _structure(self) -> NDArray[np.uint8]:
        faiss = faiss_module()
        return faiss.serialize_index(self._index)

    def _adopt(self, structure: NDArray[np.uint8]) -> None:
        faiss = faiss_module()
        index = faiss.deserialize_index(structure)
        if not isinstance(index, faiss.IndexIVFPQFastScan) or index.ntotal != self._store.used:
            raise VectorIndexError(f"holds a {type(index).__name__} of {index.ntotal} rows, not what was saved")
        self._index, self._trained_for = index, index.ntotal

    def _outgrown(self, rows: int) -> bool:
        return rows >= _GROWTH * self._trained_for


def two_level_kmeans(vectors: FloatArray, cells: int, seed: int) -> FloatArray:
    """Cluster unit ``vectors [n, d]`` into about ``cells`` unit centroids: first coarsely, then inside each cluster.

    Takes about ``2 / sqrt(cells)`` of the time of plain k-means; the cells are slightly worse, which searching a few
    more of them makes up for.
    """
    faiss = faiss_module()
    coarse_count = max(1, math.isqrt(cells))
    coarse = _kmeans(vectors, coarse_count, seed)
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    quantizer.add(coarse)
    nearest = quantizer.search(vectors, 1)[1][:, 0]
    sizes = np.bincount(nearest, minlength=len(coarse))
    parts = []
    for i, size in enumerate(sizes):
        share = round(cells * size / len(vectors))
        if size:
            parts.append(_kmeans(vectors[nearest == i], max(1, share), seed))
    return np.concatenate(parts)


def _kmeans(vectors: FloatArray, count: int, seed: int) -> FloatArray:
    faiss = faiss_module()
    count = min(count, len(vectors))
    clustering = faiss.Clustering(vectors.shape[1], count)
    clustering.seed, clustering.niter, clustering.spherical = seed, _ITERATIONS, True
    clustering.min_points_per_centroid = 1
    clustering.max_points_per_centroid = 256
    clustering.train(vectors, faiss.IndexFlatIP(vectors.shape[1]))
    centroids: FloatArray = faiss.vector_to_array(clustering.centroids).reshape(count, -1)
    return centroids


def _sample(vectors: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    if len(vectors) <= size:
        return vectors
    return vectors[np.sort(rng.choice(len(vectors), size=size, replace=False))]


def _subquantizers(dimension: int) -> int:
    """Codes of 4 dimensions each where the width divides so, else of 2 or 1."""
    return next(dimension // part for part in (4, 2, 1) if dimension % part == 0)
