"""Versions as models that need no memedit, asked their edits by transformers alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from memedit.consolidation.versions import VersionStore
from memedit.errors import InputError, StoreCorruptError, UnsupportedModelError
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.workflows.consolidate.exported import Exported, ExportFormat
from memedit.workflows.consolidate.exporting import export_version
from support.hashing_encoder import HashingEncoder
from support.made_versions import made_version
from support.taught_model import answer_of, other_than, prompt_of, taught_model

pytestmark = pytest.mark.slow


@pytest.fixture
def memory() -> Iterator[EditMemory]:
    """Three edits that the model's weights answer, and one that they do not."""
    with EditMemory(":memory:", encoder=HashingEncoder()) as found:
        for subject in "abc":
            found.add(prompt_of(subject), answer_of(subject), subject=subject)
        found.add(prompt_of("d"), other_than("d"), subject="d")
        yield found


@pytest.fixture
def store(tmp_path: Path, memory: EditMemory) -> VersionStore:
    store = VersionStore(tmp_path / "versions")
    made_version(store, taught_model(), memory.list(), seed=0, scale=1e-4, whole=True)
    return store


def _export(memory: EditMemory, store: VersionStore, out: Path, **options: object) -> Exported:
    checkpoint = out.with_name("base")

    def base(name: str) -> tuple[LoadedModel, str]:
        loaded = taught_model()
        loaded.model.save_pretrained(checkpoint)
        loaded.tokenizer.save_pretrained(checkpoint)
        return loaded, str(checkpoint)

    return export_version(memory, store, "v0001", out, base=base, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", [ExportFormat.SAFETENSORS, ExportFormat.PEFT])
def test_plain_transformers_answers_the_edits(
    format: ExportFormat, memory: EditMemory, store: VersionStore, tmp_path: Path
) -> None:
    wrong = memory.list()[-1]
    memory.update(memory.list()[0].id, target="changed since")
    found = _export(memory, store, tmp_path / "out", format=format)
    assert found.held is not None
    assert (found.edits, found.held.n, round(found.held.value, 1)) == (3, 3, 66.7), (
        "that of a changed edit is not asked"
    )
    assert found.missed == (wrong.id,)
    assert [json.loads(line)["prompt"] for line in (tmp_path / "out" / "edits.jsonl").open()] == [
        prompt_of(subject) for subject in "bcd"
    ]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "66.7%" in card
    assert "| efficacy | PASS |" in card
    assert not (tmp_path / "out" / "memedit_version.json").exists()


def test_what_cannot_be_exported_leaves_nothing(memory: EditMemory, store: VersionStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UnsupportedModelError, match="byte-level BPE"):  # the tiny tokenizer has no merges
        _export(memory, store, out, format=ExportFormat.GGUF)
    assert not out.exists()
    out.mkdir()
    (out / "mine").write_text("kept")
    with pytest.raises(InputError, match="not empty"):
        _export(memory, store, out)
    assert (out / "mine").read_text() == "kept"
    (store.folder("v0001") / "config.json").write_text("{}")
    with pytest.raises(StoreCorruptError, match=r"config\.json has changed"):
        _export(memory, store, tmp_path / "other")
