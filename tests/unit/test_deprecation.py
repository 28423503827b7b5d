"""Former names work for one version, and say what they are called now."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from memedit.client.results import FiredEdit
from memedit.runtime import EditableModel
from memedit.types import Edit, Hit


def test_a_hit_is_read_by_its_former_name() -> None:
    edit: Any = object.__new__(Edit)
    for hit in (Hit(edit, 0.9, 0.8, {}, 0.7), FiredEdit("a", "p", "t", 0.9, 0.8, {}, 0.7)):
        with pytest.warns(DeprecationWarning, match=r"is now .*target_probability"):
            assert hit.direct == 0.7


FORMER = {"pad_token": "pad_token_id", "wanted": "generator.target_prior"} | {
    name: f"generator.{name}" for name in ("target_prior", "is_chat", "asked", "place", "held")
}


@pytest.mark.parametrize(("old", "new"), FORMER.items())
def test_a_model_is_read_by_its_former_names(old: str, new: str) -> None:
    *path, last = new.split(".")
    holder: Any = SimpleNamespace(**{last: 3})
    own = {name: holder for name in path} or vars(holder)
    model: Any = type("Model", (), {old: vars(EditableModel)[old], **own})()
    with pytest.warns(DeprecationWarning, match=rf"is now Model\.{re.escape(new)}"):
        assert getattr(model, old) == 3
