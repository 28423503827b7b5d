"""Files that ship beside the code are found by name, from a checkout as from an installation."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from memedit import shipped_files
from memedit.cli.main import app
from memedit.errors import InputError
from memedit.shipped_files import find_file, shipped_folder


@pytest.mark.parametrize("name", ["scope/cautious", "scope/cautious.yaml", "configs/scope/cautious.yaml"])
def test_a_shipped_file_has_short_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file(Path(name), "configs") == shipped_folder("configs") / "scope" / "cautious.yaml"


def test_ones_own_file_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scope").mkdir()
    own = tmp_path / "scope" / "cautious.yaml"
    own.write_text("kind: scope\n")
    assert find_file(Path("scope/cautious.yaml"), "configs").resolve() == own


def test_near_names_are_offered() -> None:
    with pytest.raises(InputError, match=r"did you mean scope/cautious.*shipped: .*consolidation/nightly\.yaml"):
        find_file(Path("scope/cautius"), "configs")


def test_an_installation_has_them_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "memedit"
    (package / "configs").mkdir(parents=True)
    (tmp_path / "site" / "configs").mkdir()
    monkeypatch.setattr(shipped_files, "_PACKAGE", package)
    assert shipped_folder("configs") == package / "configs"
    with pytest.raises(InputError, match="holds no indexes"):
        shipped_folder("indexes")


@pytest.mark.parametrize(
    "words", [["ask", "why", "--config", "no/such"], ["edit", "import", "none.jsonl"], ["eval", "--config", "."]]
)
def test_the_command_line_says_what_it_could_not_find(words: list[str]) -> None:
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert "ships by this name" in found.output or "is a folder" in found.output
