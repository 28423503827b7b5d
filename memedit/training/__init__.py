"""Training of the parts that memedit ships: each part has its data and its objective in a folder of its own."""
