"""Prompts of the two facts that the runtime's tests store."""

CAPITAL = "The capital of Freedonia is"
MAYOR = "The mayor of Gotham is"
