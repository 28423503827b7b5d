"""decide_parts: long queries by their windows and sentences, each against its own bar."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from memedit.encoders import split_long
from memedit.memory import EditMemory
from memedit.runtime.passages import decide_parts, joined
from memedit.types import Edit, Hit, ScopeDecision
from support.hashing_encoder import HashingEncoder

FILLER = "Nothing of interest was said about the weather in those days. " * 30
QUESTION = "Where was Walter Gay born?"
THRESHOLD = 0.7


def stored() -> Edit:
    with EditMemory(encoder=HashingEncoder(16)) as memory:
        return memory.get(memory.add("Walter Gay was born in", "Oslo", subject="Walter Gay").id)


EDIT = stored()


def judged_by(score: Callable[[str], float], asked: list[list[str]]) -> Callable[..., list[ScopeDecision]]:
    def judge(texts: Sequence[str], threshold: float) -> list[ScopeDecision]:
        asked.append(list(texts))
        hits = [Hit(edit=EDIT, score=score(text), similarity=0.0) for text in texts]
        return [
            ScopeDecision(text, "test", threshold, (hit,) if hit.score >= threshold else (), (hit,))
            for text, hit in zip(texts, hits, strict=True)
        ]

    return judge


def decide(text: str, *, window: float, question: float, threshold: float = THRESHOLD) -> ScopeDecision:
    def score(part: str) -> float:
        if QUESTION not in part:
            return 0.0
        return question if part == QUESTION else window

    (decision,) = decide_parts([text], judged_by(score, []), threshold=threshold)
    return decision


def test_a_question_is_found_where_its_window_alone_would_not_say() -> None:
    found = decide(FILLER + QUESTION + " " + FILLER, window=0.3, question=0.99)
    assert [hit.score for hit in found.fired] == [0.99]
    assert found.threshold == THRESHOLD
    assert found.query.startswith("Nothing")


def test_a_short_query_fires_at_the_threshold_and_a_part_of_a_long_one_does_not() -> None:
    assert decide(QUESTION, window=0.0, question=0.72).fired
    long = decide(FILLER + QUESTION, window=0.72, question=0.72)
    assert not long.fired
    assert long.abstained
    assert decide(FILLER + QUESTION, window=0.72, question=0.9).fired


def test_a_window_fires_by_itself_when_it_is_sure() -> None:
    assert decide(FILLER + QUESTION, window=0.95, question=0.1).fired
    assert not decide(FILLER + QUESTION, window=0.93, question=0.1).fired


def test_passages_in_which_nothing_comes_near_are_not_read_again() -> None:
    asked: list[list[str]] = []
    decide_parts([FILLER, QUESTION, ""], judged_by(lambda text: 0.01, asked), threshold=THRESHOLD)
    assert asked == [[*split_long(FILLER), QUESTION]]


def test_rows_keep_their_places() -> None:
    texts = ["", FILLER + QUESTION, "What else?", FILLER]
    found = decide_parts(texts, judged_by(lambda text: 0.99 * (QUESTION in text), []), threshold=THRESHOLD)
    assert [decision.query for decision in found] == texts
    assert [bool(decision.fired) for decision in found] == [False, True, False, False]


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_ends_of_the_scale(threshold: float) -> None:
    assert bool(decide(QUESTION, window=0.0, question=0.5, threshold=threshold).fired) == (threshold == 0.0)
    assert decide(FILLER + QUESTION, window=1.0, question=1.0, threshold=threshold).fired


@pytest.mark.parametrize("blocked", [True, False])
def test_what_is_blocked_for_a_last_turn_alone_does_not_fire_on_its_talk(blocked: bool) -> None:
    silent = Hit(EDIT, 0.0, 0.9, {"blocked": 1.0} if blocked else {})
    heard = Hit(EDIT, 0.9, 0.9)
    alone = ScopeDecision(QUESTION, "test", THRESHOLD, (), (silent,))
    told = ScopeDecision(QUESTION, "test", THRESHOLD, (heard,), (heard,))
    assert bool(joined(alone, told).fired) is not blocked


def test_what_a_last_turn_names_goes_before_what_it_may_refer_to() -> None:
    named, meant = Hit(EDIT, 0.8, 0.9), Hit(replace(EDIT, id="meant"), 0.99, 0.9)
    alone = ScopeDecision(QUESTION, "test", THRESHOLD, (named,), (named,))
    told = ScopeDecision(QUESTION, "test", THRESHOLD, (meant,), (meant,))
    assert joined(alone, told).fired == (named,)
    assert joined(replace(alone, fired=()), told).fired == (meant,)
