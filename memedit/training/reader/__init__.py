"""Training the reader: facts, examples, batches and the trainer."""
