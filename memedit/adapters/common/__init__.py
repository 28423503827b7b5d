"""What the trained adapters share: examples, token rows, checkpoints."""
