"""Trained weights on disk: whole, flushed, recognised, and refused in plain words when they are not what they were."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from memedit.errors import InputError, ModelNotFoundError
from memedit.trained_folder import TrainedFolder, weights_fingerprint

KIND = TrainedFolder("part.safetensors", "part.json", 3, "trained part", "memedit train part")
TENSORS = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.ones(2, dtype=torch.float16)}


def width(fields: Mapping[str, Any]) -> int:
    return int(fields["width"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    KIND.save(tmp_path / "new", TENSORS, {"width": 7})
    return tmp_path / "new"


def test_what_is_written_is_read(folder: Path) -> None:
    assert KIND.read(folder, width) == 7
    found = KIND.tensors(folder)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in found)
    assert sorted(path.name for path in folder.iterdir()) == ["part.json", "part.safetensors"]


def test_files_reach_the_disk_before_they_are_in_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, move = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("flush"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda old, new: (order.append(Path(new).name), move(old, new)))
    KIND.save(folder, TENSORS, {"width": 8})
    assert order == ["flush", "part.safetensors", "flush", "part.json"]


def test_a_write_that_fails_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(old: Any, new: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        KIND.save(folder, {"a": torch.zeros(1)}, {"width": 9})
    assert KIND.read(folder, width) == 7
    assert torch.equal(KIND.tensors(folder)["a"], TENSORS["a"])
    assert len(list(folder.iterdir())) == 2


def test_what_cannot_be_used_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no trained part \(part\.json\); make one: memedit train part"):
        KIND.read(tmp_path, width)
    record = folder / "part.json"
    fields = json.loads(record.read_text("utf-8"))
    record.write_text(json.dumps({**fields, "format": 4}), "utf-8")
    with pytest.raises(InputError, match="has format 4, this memedit reads 3"):
        KIND.read(folder, width)
    for text in ("{", "[]", json.dumps({"format": 3})):
        record.write_text(text, "utf-8")
        with pytest.raises(InputError, match=r"part\.json is damaged"):
            KIND.read(folder, width)
    (folder / "part.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"cannot read .*part\.safetensors"):
        KIND.tensors(folder)


def test_a_fingerprint_is_of_values_names_shapes_and_what_is_said_of_them() -> None:
    seen = {
        weights_fingerprint({"base": "x"}, TENSORS),
        weights_fingerprint({"base": "y"}, TENSORS),
        weights_fingerprint({"base": "x"}, {**TENSORS, "a": torch.zeros(2, dtype=torch.float16)}),
        weights_fingerprint({"base": "x"}, {"b": TENSORS["b"].T, "a": TENSORS["a"]}),
        weights_fingerprint({"base": "x"}, {"c": TENSORS["b"], "a": TENSORS["a"]}),
    }
    assert len(seen) == 5
    assert weights_fingerprint({"base": "x"}, dict(reversed(TENSORS.items()))) in seen
