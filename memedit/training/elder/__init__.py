"""Training ELDER: streams, passes and the trainer."""
