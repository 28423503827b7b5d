"""When an answer that is being written is looked up."""

from dataclasses import dataclass

from memedit.errors import InputError

_LEAST = 4


@dataclass(frozen=True, slots=True)
class Recheck:
    """At the end of each sentence, and with ``every`` after so many tokens too."""

    every: int | None = None


def check_recheck(policy: str | int) -> Recheck | None:
    """Return what "off" (None), "sentence" or a number of tokens stands for.

    Raises:
        InputError: it is none of these, or a number below 4.
    """
    text = str(policy).strip().lower()
    if text in ("off", "sentence"):
        return Recheck() if text == "sentence" else None
    if not text.isdecimal() or int(text) < _LEAST:
        raise InputError(f"recheck={policy!r} is none of off, sentence, or a number of tokens from {_LEAST} on")
    return Recheck(int(text))
