"""A whole memory copied at one moment into one SQLite file, taken back to an earlier revision, and put into a store."""

from memedit.memory.backup.loading import check_empty, load_snapshot
from memedit.memory.backup.rewinding import Rewound, revision_at, rewind
from memedit.memory.backup.snapshot import SnapshotFacts, facts_of, write_snapshot

__all__ = [
    "Rewound",
    "SnapshotFacts",
    "check_empty",
    "facts_of",
    "load_snapshot",
    "revision_at",
    "rewind",
    "write_snapshot",
]
