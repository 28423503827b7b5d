"""The parts of the consolidation job; :mod:`memedit.workflows.consolidate` joins them."""
