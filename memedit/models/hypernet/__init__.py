"""Networks that make edits of gradients: shape, files, and the networks themselves."""
