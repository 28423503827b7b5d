"""memedit: edit memory for frozen Hugging Face causal LMs."""
