"""Values made safe to print."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.cli.text import chain_text, one_line, plain, visible
from memedit.types import ChainHop

any_text = st.text(alphabet=st.characters(exclude_categories=()))


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Sample:
    when: datetime
    colour: Colour
    path: Path
    vector: np.ndarray
    score: float


def test_terminal_sequences_are_shown_not_obeyed() -> None:
    assert visible("a\x1b[2Jb\x07c") == "a\\x1b[2Jb\\x07c"
    assert visible("pay \u202e100\u202c") == "pay \\u202e100\\u202c"
    assert visible("\ud800") == "\\ud800"
    assert visible("a\r\nb\rc\r") == "a\r\nb\\x0dc\\x0d"


@pytest.mark.parametrize("text", ["naïve café", "東京は日本の首都", "القاهرة", "👩‍👩‍👧", "two\nlines\tand a tab"])
def test_ordinary_text_of_any_script_is_kept(text: str) -> None:
    assert visible(text) == text


@given(any_text)
def test_visible_text_can_be_encoded_and_holds_no_control_character(text: str) -> None:
    shown = visible(text)
    shown.encode()
    # a carriage return before a line feed stays: it ends a line as the line feed does
    assert not any(ord(char) < 0x20 for char in shown.replace("\r\n", "\n") if char not in "\n\t")
    assert visible(shown) == shown


@given(any_text, st.integers(min_value=1, max_value=40))
def test_one_line_fits(text: str, width: int) -> None:
    line = one_line(text, width)
    assert len(line) <= width
    assert "\n" not in line


def test_values_become_json() -> None:
    sample = Sample(
        datetime(2026, 11, 2, tzinfo=UTC), Colour.RED, Path("a/b"), np.array([1.0, 2.0], np.float32), math.nan
    )
    assert plain({"sample": sample, 3: {b"\x01"}}) == {
        "sample": {
            "when": "2026-11-02T00:00:00+00:00",
            "colour": "red",
            "path": "a/b",
            "vector": [1.0, 2.0],
            "score": None,
        },
        "3": ["01"],
    }


@given(st.recursive(st.none() | st.booleans() | st.floats() | any_text, st.lists, max_leaves=10))
def test_everything_plain_is_strict_json(value: object) -> None:
    json.dumps(plain(value), allow_nan=False)


def test_a_chain_says_which_hop_is_the_models() -> None:
    chain = [
        ChainHop("e1", "Who makes the Falcon Pro?", "Arn Works"),
        ChainHop("", "Who is the boss of Arn Works?", ""),
    ]
    assert chain_text(chain) == "Who makes the Falcon Pro? -> Arn Works | Who is the boss of Arn Works? -> (the model)"
