"""Neuron memory (after LU-LAFN, arXiv 2406.16416): an edit is a few values added to MLP neurons on its rows."""
