"""What people call the fields of an edit in tables and lists of questions."""

_CALLED = {
    "prompt": ("prompt", "question", "q", "query"),
    "target": ("target", "target new", "answer", "a", "response", "reply", "completion"),
    "subject": ("subject", "entity"),
    "ground_truth": ("ground truth", "old answer", "wrong answer"),
    "source": ("source",),
    "kind": ("kind",),
    "valid_at": ("valid at", "valid from"),
    "invalid_at": ("invalid at", "valid until"),
}
_FIELDS = {name: field for field, names in _CALLED.items() for name in names}


def field_of_column(name: str) -> str | None:
    """Return the field of an edit that a column holds by its name, None where it says none."""
    return _FIELDS.get(" ".join(name.replace("_", " ").replace("-", " ").casefold().split()))
