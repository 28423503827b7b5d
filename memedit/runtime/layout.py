"""A target's layout among its tokens: where a model that reads it on one line would say it otherwise."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from memedit.models import encode_as_data

_AHEAD = 24
"""Characters that are tokenised to see how the rest of a target would begin."""
_PIECE = 7
"""Tokens of fewer characters are looked for at such a place."""


def has_layout(target: str) -> bool:
    """Say whether a target holds more than words with one blank between them: line breaks, tabs, runs of blanks."""
    return target != " ".join(target.split())


@lru_cache(maxsize=256)
def same_but_for_layout(tokenizer: Any, target: str, ids: tuple[int, ...]) -> Mapping[int, tuple[int, ...]]:
    """Return, by place among a target's ``ids``, the tokens that say the same there but for line breaks and blanks.

    Only places at and behind a line break, a tab, or several blanks have any; targets without have none.
    """
    if not has_layout(target):
        return {}
    meant: dict[int, tuple[int, ...]] = {}
    for place, start, end in _spans(tokenizer, target, ids):
        others = _others(tokenizer, target, start, end) - {ids[place]}
        if others:
            meant[place] = tuple(sorted(others))
    return meant


def _spans(tokenizer: Any, target: str, ids: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the places of tokens that begin at a character of the target, with the numbers of their characters.

    The first token may have a blank in front that the target has not; a token may be part of a character.
    """
    at, pending = 0, 0
    for place in range(len(ids)):
        begun = at if pending == place else None
        text = tokenizer.decode(list(ids[pending : place + 1]), skip_special_tokens=True)
        for said in (text, f" {text}", text.removeprefix(" ") if at == 0 else text):
            if said and target.startswith(said, at):
                at, pending = at + len(said), place + 1
                break
        if begun is not None:
            yield place, begun, at


def _others(tokenizer: Any, target: str, at: int, end: int) -> set[int]:
    """Return the tokens by which a target's rest may begin on one line, or on a line of its own, from ``at`` on.

    The token there ends at ``end``. One that only ends in a line break (".\\n") is on one line its beginning.
    """
    behind, rest, token = target[:at], target[at:], target[at:end]
    if token.strip() and " ".join(token.split()) != token.removeprefix(" "):
        begin = " " if rest.startswith(" ") else ""
        return set(encode_as_data(tokenizer, begin + " ".join(rest[:_AHEAD].split()))[:1])
    before, after = len(behind) - len(behind.rstrip()), len(rest) - len(rest.lstrip())
    blanks = behind[len(behind) - before :] + rest[:after]
    if not blanks or (blanks == " " and len(behind) > before and len(rest) > after):
        return set()
    following = rest.lstrip()[:_AHEAD]
    if not following:
        return {int(tokenizer.eos_token_id)} if rest and tokenizer.eos_token_id is not None else set()
    begins = (" ", "\n", "") if before or not behind else (" ", "\n")
    found = [encode_as_data(tokenizer, begin + following)[:1] for begin in begins]
    for begin in begins:  # a model may cut its words otherwise
        pieces = (encode_as_data(tokenizer, begin + following[:size]) for size in range(1, _PIECE))
        found += [ids for ids in pieces if len(ids) == 1]
    return {token for ids in found for token in ids} - set(tokenizer.all_special_ids)
