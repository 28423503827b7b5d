"""SERAC: a scope classifier and a counterfactual model (arXiv 2206.06520)."""
