"""Training of the scope's judge from an inventory of relations and from the training rows of data files."""
