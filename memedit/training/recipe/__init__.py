"""Training RECIPE: its objective and trainer."""
