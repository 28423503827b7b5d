"""How the turns of a talk stand in one text, for scopes that read talks."""

TURN = "\x1e"
"""What separates turns: a control character (record separator) that no one types."""


def turns_of(text: str) -> list[str]:
    """Return the turns of a text, oldest first; a text that is no talk is one turn."""
    return text.split(TURN)
