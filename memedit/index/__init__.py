"""Vector indexes (exact reference, FAISS, pgvector) and the subject index. Importing this imports no FAISS."""

from memedit.index.base import VectorIndex
from memedit.index.registry import INDEXES, create_index, load_index
from memedit.index.storage import IndexManifest, read_manifest
from memedit.index.subject_guess import guess_subject
from memedit.index.subject_tagging import Reading, SubjectTagger, tagger_for
from memedit.index.subjects import SubjectIndex, SubjectMatch

__all__ = [
    "INDEXES",
    "IndexManifest",
    "Reading",
    "SubjectIndex",
    "SubjectMatch",
    "SubjectTagger",
    "VectorIndex",
    "create_index",
    "guess_subject",
    "load_index",
    "read_manifest",
    "tagger_for",
]
