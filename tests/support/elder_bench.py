"""Made-up edits and settings for ELDER on tiny models."""

from datetime import UTC, datetime

from memedit.adapters.elder.config import ElderConfig
from memedit.training.elder.trainer import ElderSettings
from memedit.types import Edit, EditKind, EditState

NAMES = ("ada", "bo", "cleo", "dov", "eva", "finn")
TARGETS = ("r", "t", "o", "s", "i", "f")
BY_EDIT = ElderConfig(layers=(2,), code_layers=(0, 1), experts=4, rank=4, top_k=2)
BY_ROUTER = ElderConfig(layers=(1, 2), experts=3, rank=2, top_k=2, allocation="router", span="all")
SETTINGS = ElderSettings(
    shared_edits=3, shared_steps=40, shared_learning_rate=4e-2, steps=40, learning_rate=0.3, wordings=2, chunk=2,
    row_tokens=120, enough=0.3, replay=2, dtype="float32",
)  # fmt: skip


def made_edits(count: int = 4) -> list[Edit]:
    """Edits about the mills of so many names."""
    now = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        Edit(
            id=f"edit-{i}", namespace="default", prompt=f"the mill of {NAMES[i]} is", target=TARGETS[i],
            subject=NAMES[i], paraphrases=(), ground_truth=None, kind=EditKind.FACT, metadata={}, source=None,
            created_at=now, expired_at=None, valid_at=None, invalid_at=None, version=1, state=EditState.ACTIVE,
            content_hash=f"hash-{i}",
        )
        for i in range(count)
    ]  # fmt: skip
