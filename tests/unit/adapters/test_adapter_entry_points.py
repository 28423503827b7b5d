"""An adapter of another package: found by its entry point, behind memedit's own names."""

from pathlib import Path

import pytest

from memedit.adapters import ADAPTERS, create_adapter
from memedit.adapters.in_context.adapter import InContextAdapter
from memedit.errors import InputError, UnknownNameError
from support.tiny import tiny_model, tiny_tokenizer

CODE = """
from memedit.adapters.in_context.adapter import InContextAdapter

class Footnote(InContextAdapter):
    name = "footnote"
"""
OFFERED = """
[memedit.adapters]
footnote = footnote_package:Footnote
broken = footnote_package:Absent
in_context = footnote_package:Footnote
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as pip leaves it."""
    (tmp_path / "footnote_package.py").write_text(CODE)
    about = tmp_path / "footnote_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: footnote-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(OFFERED)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_an_installed_adapter_is_made_by_name() -> None:
    assert "footnote" in ADAPTERS
    assert {"footnote", "reader"} <= set(ADAPTERS)
    made = create_adapter("footnote", tiny_model(), tiny_tokenizer())
    assert (made.name, type(made).__module__) == ("footnote", "footnote_package")


@pytest.mark.usefixtures("installed")
def test_own_names_go_before_and_near_matches_cover_both() -> None:
    assert ADAPTERS.get("in_context") is InContextAdapter
    with pytest.raises(UnknownNameError, match=r"did you mean 'footnote'"):
        ADAPTERS.get("footnotes")


@pytest.mark.usefixtures("installed")
def test_an_adapter_that_cannot_be_imported_names_its_package() -> None:
    with pytest.raises(InputError, match=r"footnote_package:Absent, which cannot be imported"):
        ADAPTERS.get("broken")


def test_nothing_is_offered_where_nothing_is_installed() -> None:
    assert "footnote" not in ADAPTERS
