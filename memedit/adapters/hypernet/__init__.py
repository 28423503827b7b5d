"""Hypernetworks that make an edit's low-rank factors of its gradient (MEND, arXiv 2110.11309)."""
