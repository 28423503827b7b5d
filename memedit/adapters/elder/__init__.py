"""ELDER: a lifelong mixture of LoRAs in the MLPs, trained from the edit memory (arXiv 2408.11869)."""
