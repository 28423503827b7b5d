"""Generations and scorings as JSON, for the journal and the cache."""

from typing import Any

from memedit.errors import InputError
from memedit.evaluation.answering import Firing, Generation, Scoring

Result = Generation | Scoring


def to_json(result: Result) -> dict[str, Any]:
    """Return the JSON form of a result."""
    shared = {"fired": _firings(result.fired), "considered": _firings(result.considered)}
    if isinstance(result, Generation):
        return {"text": result.text, "ids": list(result.token_ids), **shared}
    return {
        "logprobs": list(result.logprobs),
        "matches": [int(match) for match in result.matches],
        "predicted": list(result.predicted),
        **shared,
    }


def from_json(value: dict[str, Any]) -> Result:
    """Return the result of a JSON form.

    Raises:
        InputError: it is not one that :func:`to_json` wrote.
    """
    try:
        shared = {key: tuple(Firing(int(e), float(s)) for e, s in value[key]) for key in ("fired", "considered")}
        if "ids" in value:
            return Generation(str(value["text"]), tuple(map(int, value["ids"])), **shared)
        return Scoring(
            tuple(map(float, value["logprobs"])), tuple(map(bool, value["matches"])),
            tuple(map(int, value["predicted"])), **shared,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a stored result: {value!r:.120}") from error


def _firings(firings: tuple[Firing, ...]) -> list[list[float]]:
    return [[firing.edit, firing.score] for firing in firings]
