"""An adapter that does nothing of its own."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from memedit.adapters.base import AdapterBatch, Row
from memedit.types import Edit


class Asking:
    """Leaves the model alone but asks for targets to be mixed in."""

    name, fingerprint = "asking", "asking-1"

    def __init__(self, weight: float) -> None:
        self.target_weight = weight

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        return {}

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        return row

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> Any:
        return nullcontext()

    def decoding(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> Any:
        return nullcontext()

    def model(self) -> None:
        return None
