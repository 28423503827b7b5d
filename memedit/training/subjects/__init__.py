"""Training of the tagger that finds subject and value in a text: texts with known spans, and the fit."""
