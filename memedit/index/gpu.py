"""Exact search on an NVIDIA GPU, where FAISS is built for one."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from memedit.errors import InputError, MissingExtraError
from memedit.index.approximate import ApproximateIndex, RowArray
from memedit.index.faiss_module import faiss_module
from memedit.types import FloatArray


class GPUIndex(ApproximateIndex):
    """All inner products on the GPU; the vectors also lie in main memory, for saving and for exact ties.

    GPU indexes cannot delete, so removed rows are tombstones as in the other kinds. The saved file holds vectors only
    and is the same for any GPU.

    Args:
        device: number of the GPU.
        float16: keep half-precision vectors on the GPU (half the memory; scores are exact all the same).

    Raises:
        MissingExtraError: faiss-gpu is not installed.
        InputError: FAISS sees no GPU of this number.
    """

    kind: ClassVar[str] = "gpu"

    def __init__(self, dimension: int, *, device: int = 0, float16: bool = False, exact_below: int = 2_000) -> None:
        super().__init__(dimension, exact_below=exact_below)
        faiss = faiss_module()
        if not hasattr(faiss, "StandardGpuResources"):
            raise MissingExtraError("faiss-gpu (in place of faiss-cpu, which has to be uninstalled first)", "gpu")
        count = faiss.get_num_gpus()
        if not 0 <= device < count:
            raise InputError(f"device={device}: FAISS sees {count} GPU(s)")
        self._device, self._float16 = device, float16
        self._resources: Any = faiss.StandardGpuResources()
        self._index: Any = None

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that make an equal empty index."""
        return {"device": self._device, "float16": self._float16, "exact_below": self._exact_below}

    def _build(self, vectors: FloatArray) -> None:
        faiss = faiss_module()
        config = faiss.GpuIndexFlatConfig()
        config.device, config.useFloat16 = self._device, self._float16
        self._index = faiss.GpuIndexFlatIP(self._resources, self._dimension, config)
        self._index.add(vectors)

    def _insert(self, rows: RowArray) -> None:
        self._index.add(self._store.vectors[rows])

    def _candidates(self, queries: FloatArray, k: int, widen: int) -> RowArray:
        # 2048 is the most that FAISS selects on a GPU; searching wider than that falls back to all rows.
        _, rows = self._index.search(queries, min(2048, self._index.ntotal, (2 * k + 16) * widen))
        return rows

    def _structure(self) -> NDArray[np.uint8]:
        return np.ones(1, dtype=np.uint8)

    def _adopt(self, structure: NDArray[np.uint8]) -> None:
        self._build(self._store.vectors[: self._store.used])
