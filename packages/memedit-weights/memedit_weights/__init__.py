"""Trained weights for memedit, as data: ``METHOD/BASE/`` holds safetensors and a JSON record of what they are for."""
