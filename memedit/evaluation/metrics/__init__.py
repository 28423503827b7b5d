"""Measures of answers and of the uncertainty about them."""
