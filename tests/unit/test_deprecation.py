"""Former names work for one version, and say what they are called now."""

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


@pytest.mark.parametrize(("old", "new"), [("pad_token", "pad_token_id"), ("wanted", "target_prior")])
def test_a_model_is_read_by_its_former_names(old: str, new: str) -> None:
    model: Any = type("Model", (), {old: vars(EditableModel)[old], new: 3})()
    with pytest.warns(DeprecationWarning, match=rf"is now Model\.{new}"):
        assert getattr(model, old) == 3
