"""Settings changed by name, from text."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.config.overrides import with_overrides
from memedit.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    flag: bool = True


@dataclass(frozen=True)
class Outer:
    steps: int = 10
    name: str = "plain"
    layers: tuple[int, ...] = (1, 2)
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; at least 1")


def test_values_are_read_as_the_kind_they_replace() -> None:
    text = {
        "steps": "20",
        "name": "other",
        "layers": "[3]",
        "limit": "7",
        "inner.rate": "1e-3",
        "inner.flag": "false",
    }
    changed = with_overrides(Outer(), text)
    assert changed == Outer(20, "other", (3,), 7, Inner(0.001, False))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("steps", "many", "takes a value like 10"),
        ("steps", "true", "takes a value like 10"),
        ("steps", "0", "at least 1"),
        ("inner.rate", "fast", "takes a number"),
        ("inner", "1", "inner.rate"),
        ("steps.more", "1", "has no parts"),
        ("layers", "[1", "cannot be read"),
    ],
)
def test_wrong_values_are_named(name: str, value: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        with_overrides(Outer(), {name: value})


def test_unknown_names_get_near_matches() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'steps'"):
        with_overrides(Outer(), {"stpes": "1"})


@given(st.text(max_size=30))
def test_any_text_is_taken_or_refused_clearly(text: str) -> None:
    try:
        changed = with_overrides(Outer(), {"inner.rate": text})
    except InputError:
        return
    assert isinstance(changed.inner.rate, float)
