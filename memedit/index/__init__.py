"""Vector indexes (exact reference, FAISS) and the subject index."""

from memedit.index.base import VectorIndex

__all__ = ["VectorIndex"]
