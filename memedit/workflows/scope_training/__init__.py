"""Training the scope classifier: from data files to weights."""
