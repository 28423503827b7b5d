"""Find the subject of a prompt without a model."""


def find_subject(prompt: str, target: str | None = None) -> str | None:
    """Return the span of ``prompt`` that names what it is about, or None."""
    raise NotImplementedError
