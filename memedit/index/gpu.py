"""Exact search on a GPU, by PyTorch: whatever device it runs on serves, and no second build of FAISS is needed."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memedit.errors import InputError
from memedit.index.approximate import ApproximateIndex, RowArray
from memedit.types import FloatArray


class GPUIndex(ApproximateIndex):
    """All inner products on the GPU; the vectors also lie in main memory, for saving and for exact ties.

    Removed rows stay as tombstones, as in the other kinds. The saved file holds vectors only and is the same for any
    device.

    Args:
        device: number of the CUDA device, or a name that PyTorch knows ("cuda:1", "mps", "cpu").
        float16: keep half-precision vectors on the device (half the memory; scores are exact all the same).

    Raises:
        InputError: PyTorch has no such device.
    """

    kind: ClassVar[str] = "gpu"

    def __init__(
        self, dimension: int, *, device: int | str = 0, float16: bool = False, exact_below: int = 2_000
    ) -> None:
        super().__init__(dimension, exact_below=exact_below)
        self._device, self._float16 = device, float16
        try:
            place = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
            self._rows = torch.zeros(0, dimension, device=place, dtype=torch.float16 if float16 else torch.float32)
        except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
            seen = torch.cuda.device_count()
            reason = str(error).partition("\n")[0]
            raise InputError(f"device={device!r}: PyTorch sees {seen} CUDA device(s) here ({reason})") from error

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that make an equal empty index."""
        return {"device": self._device, "float16": self._float16, "exact_below": self._exact_below}

    def _build(self, vectors: FloatArray) -> None:
        self._rows = self._placed(vectors)

    def _insert(self, rows: RowArray) -> None:
        start, end = int(rows[0]), int(rows[-1]) + 1
        if end > len(self._rows):
            grown = self._rows.new_zeros(end + end // 2, self._dimension)
            grown[:start] = self._rows[:start]
            self._rows = grown
        self._rows[start:end] = self._placed(self._store.vectors[rows])

    def _candidates(self, queries: FloatArray, k: int, widen: int) -> RowArray:
        used = self._store.used
        scores = self._placed(queries) @ self._rows[:used].T
        found: RowArray = scores.topk(min(used, (2 * k + 16) * widen), dim=1).indices.cpu().numpy()
        return found

    def _structure(self) -> NDArray[np.uint8]:
        return np.ones(1, dtype=np.uint8)

    def _adopt(self, structure: NDArray[np.uint8]) -> None:
        self._build(self._store.vectors[: self._store.used])

    def _placed(self, vectors: FloatArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(vectors)).to(self._rows.device, self._rows.dtype, copy=True)
