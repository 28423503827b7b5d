"""RECIPE: retrieval-augmented continuous prompts (arXiv 2405.03279)."""
