"""GRACE (arXiv 2211.11031): a codebook at one layer, whose values replace the layer's output near their keys."""
