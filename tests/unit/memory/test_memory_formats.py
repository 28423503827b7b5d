"""Files in and out: what round-trips, what is read, and how a bad row is named."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.errors import ConflictError, DatasetError, StoreError, UnknownNameError
from memedit.memory import EditMemory
from memedit.memory.formats import FORMATS
from memedit.types import EditDraft, EditKind, EditState
from support.hashing_encoder import HashingEncoder

FIELDS = ("prompt", "target", "subject", "paraphrases", "ground_truth", "kind", "metadata", "source")
TIMES = ("valid_at", "invalid_at")
FACTS = [
    EditDraft("Who leads Norvik Shipping?", "Ada Holm", subject="Norvik Shipping", ground_truth="Ole Berg"),
    EditDraft("The capital of Atlantis is", "Poseidonis", subject="Atlantis", paraphrases=("Atlantis's capital is",)),
    EditDraft(
        "What may I ask about pay?",
        "Please ask\n“HR”\u2028…",
        subject="pay",
        kind=EditKind.REFUSAL,
        metadata={"a": [1, {"b": None}], "memo": "ü"},
        source="handbook",
        valid_at=datetime(2026, 1, 1, tzinfo=UTC),
        invalid_at=datetime(2027, 1, 1, tzinfo=UTC),
    ),
    EditDraft(
        "Tell me about the old bridge.", "It was built. It fell. " * 20, subject="old bridge", kind=EditKind.LONG_FORM
    ),
]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def contents(memory: EditMemory, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(edit, name) for name in names) for edit in memory.list()]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("jsonl", ("id", *FIELDS, *TIMES)),
        ("mem0", ("id", *FIELDS, *TIMES)),
        ("counterfact", ("prompt", "target", "subject", "paraphrases", "ground_truth")),
        ("zsre", ("prompt", "target", "subject", "paraphrases", "ground_truth")),
        ("knowedit", ("prompt", "target", "subject", "ground_truth")),
        ("alpaca", ("prompt", "target")),
        ("openai", ("prompt", "target")),
        ("qa", ("prompt", "target")),
    ],
)
def test_export_and_import_round_trip(
    encoder: HashingEncoder, tmp_path: Path, name: str, kept: tuple[str, ...]
) -> None:
    path = tmp_path / "edits.json"
    with EditMemory(encoder=encoder) as one, EditMemory(encoder=encoder) as other:
        one.add_many(FACTS)
        one.delete(one.add("gone", "x").id)
        assert one.export(path, format=name) == len(FACTS)
        report = other.import_file(path, paraphrases=True)
        assert len(report.added) == len(FACTS)
        assert contents(other, *kept) == contents(one, *kept)
        assert other.import_file(path, paraphrases=True).added == (), "importing again changes nothing"


def test_every_format_is_covered_by_the_round_trip() -> None:
    assert set(FORMATS) == {"jsonl", "mem0", "counterfact", "zsre", "knowedit", "alpaca", "openai", "qa"}


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    str.strip
)
DRAFTS = st.builds(
    EditDraft,
    prompt=TEXT,
    target=TEXT,
    subject=TEXT,
    paraphrases=st.lists(TEXT, max_size=3).map(tuple),
    ground_truth=st.none() | TEXT,
    kind=st.sampled_from(EditKind),
    metadata=st.dictionaries(TEXT, st.recursive(st.none() | st.integers() | TEXT, lambda x: st.lists(x, max_size=3))),
    source=st.none() | TEXT,
    valid_at=st.none() | st.datetimes(timezones=st.just(UTC)),
)


@settings(max_examples=12, deadline=None)
@given(drafts=st.lists(DRAFTS, max_size=6), name=st.sampled_from(["jsonl", "mem0"]))
def test_any_edits_round_trip(tmp_path_factory: pytest.TempPathFactory, drafts: list[EditDraft], name: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{name}"
    encoder = HashingEncoder(8)
    with EditMemory(encoder=encoder) as one, EditMemory(encoder=encoder) as other:
        one.add_many(drafts, on_conflict="keep")
        one.export(path, format=name)
        other.import_file(path, format=name, on_conflict="keep")
        assert contents(other, "id", *FIELDS, *TIMES) == contents(one, "id", *FIELDS, *TIMES)
        assert other.verify().ok


COUNTERFACT = {
    "case_id": 2,
    "prompt": "Ida Lund plays the",
    "target_new": "piano",
    "subject": "Ida Lund",
    "ground_truth": "guitar",
    "rephrase_prompt": "Ida Lund is great at the",
    "locality_prompt": "Ole Berg plays the",
    "locality_ground_truth": "drums",
}
NESTED = {
    "case_id": 5,
    "requested_rewrite": {
        "prompt": "{} plays the",
        "relation_id": "P1303",
        "target_new": {"str": "harp", "id": "Q1"},
        "target_true": {"str": "flute", "id": "Q2"},
        "subject": "Bo Ek",
    },
    "paraphrase_prompts": ["Noise. Bo Ek is great at the"],
    "neighborhood_prompts": ["Ida Lund plays the"],
}
ZSRE = {"subject": "U-1", "src": "Who built U-1?", "alt": "Norvik", "answers": ["Weser"], "loc": "nq question: x"}
KNOWEDIT = {
    "subject": "Bo Ek",
    "prompt": "The gender of Bo Ek is",
    "target_new": "male",
    "ground_truth": [["female", "woman"]],
    "portability": {"Reasoning": []},
    "locality": {"Relation_Specificity": [{"prompt": "The job of Bo Ek is", "ground_truth": "pilot"}]},
}
WIKIBIO = {"text": "This is about Bo Ek.", "labels": "Bo Ek was a pilot.", "concept": "Bo Ek", "locality": {}}
MEM0 = {
    "id": "m-1",
    "memory": "Ada prefers morning meetings",
    "hash": "x",
    "metadata": {"type": "preference"},
    "created_at": "2025-01-01T00:00:00Z",
    "user_id": "ada",
}


@pytest.mark.parametrize(
    ("row", "prompt", "target", "subject", "truth"),
    [
        (COUNTERFACT, "Ida Lund plays the", "piano", "Ida Lund", "guitar"),
        (NESTED, "Bo Ek plays the", "harp", "Bo Ek", "flute"),
        (ZSRE, "Who built U-1?", "Norvik", "U-1", "Weser"),
        (KNOWEDIT, "The gender of Bo Ek is", "male", "Bo Ek", "female"),
        (WIKIBIO, "This is about Bo Ek.", "Bo Ek was a pilot.", "Bo Ek", None),
    ],
)
@pytest.mark.parametrize("layout", ["lines", "array", "pretty"])
def test_published_forms_are_recognised(
    memory: EditMemory, tmp_path: Path, row: Any, prompt: str, target: str, subject: str, truth: str | None, layout: str
) -> None:
    text = {"lines": json.dumps(row) + "\n\n", "array": json.dumps([row]), "pretty": json.dumps([row], indent=2)}[
        layout
    ]
    path = tmp_path / "data.json"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    memory.import_file(path)
    (edit,) = memory.list()
    assert (edit.prompt, edit.target, edit.subject, edit.ground_truth) == (prompt, target, subject, truth)
    assert edit.paraphrases == ()
    assert edit.metadata == ({"case_id": row["case_id"]} if "case_id" in row else {})


@pytest.mark.parametrize("shape", ["lines", "results", "array", "pretty"])
def test_mem0_memories_become_statements(memory: EditMemory, tmp_path: Path, shape: str) -> None:
    whole = {"lines": MEM0, "results": {"results": [MEM0]}, "array": [MEM0], "pretty": {"results": [MEM0]}}[shape]
    path = tmp_path / "mem0.json"
    path.write_text(json.dumps(whole, indent=2 if shape == "pretty" else None))
    memory.import_file(path)
    (edit,) = memory.list()
    assert edit.prompt == edit.target == MEM0["memory"], "no tagger fits this encoder: the statement stays whole"
    assert edit.kind is EditKind.STATEMENT
    assert edit.metadata["type"] == "preference"
    assert edit.metadata["user_id"] == "ada"
    assert edit.source == "mem0:m-1"


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


@pytest.mark.parametrize(
    ("name", "good", "bad", "field", "words"),
    [
        ("counterfact", COUNTERFACT, without(COUNTERFACT, "target_new"), "target_new", "is missing"),
        ("counterfact", COUNTERFACT, {**COUNTERFACT, "target_new": ""}, "target_new", "is blank"),
        ("counterfact", COUNTERFACT, {**COUNTERFACT, "prompt": ["x"]}, "prompt", "expected text, got list"),
        ("counterfact", NESTED, {**NESTED, "requested_rewrite": {}}, "subject", "is missing"),
        (
            "counterfact",
            NESTED,
            {**NESTED, "requested_rewrite": {**NESTED["requested_rewrite"], "target_new": "x"}},  # type: ignore[dict-item]
            "requested_rewrite.target_new.str",
            "expected an object",
        ),
        ("zsre", ZSRE, {**ZSRE, "alt": None}, "alt", "expected text, got NoneType"),
        ("zsre", ZSRE, {**ZSRE, "answers": [[7]]}, "answers", "expected text, got int"),
        ("zsre", ZSRE, {**ZSRE, "src": "a\0"}, "src", "NUL"),
        ("knowedit", KNOWEDIT, {**KNOWEDIT, "subject": 4}, "subject", "expected text"),
        ("mem0", MEM0, {**MEM0, "memory": "\ud800"}, "memory", "lone surrogate"),
        ("mem0", MEM0, {**MEM0, "metadata": "x"}, "metadata", "expected an object"),
        ("jsonl", {"prompt": "a", "target": "b"}, {"prompt": "c", "taget": "d"}, "taget", "did you mean 'target'"),
        ("jsonl", {"prompt": "a", "target": "b"}, {"prompt": "c"}, "target", "is missing"),
        ("jsonl", {"prompt": "a", "target": "b"}, {"prompt": "c", "target": "d", "state": "x"}, "state", "none of"),
        ("jsonl", {"prompt": "a", "target": "b"}, {"prompt": "c", "target": "d", "kind": "x"}, "kind", "unknown"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(
    memory: EditMemory, tmp_path: Path, name: str, good: Any, bad: Any, field: str, words: str
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(good) + "\n\n" + json.dumps(bad) + "\n")
    with pytest.raises(DatasetError, match=words) as caught:
        memory.import_file(path, format=name)
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), 3, field)
    assert memory.revision == 0
    path.write_text("[\n" + json.dumps(good, indent=1) + ",\n" + json.dumps(bad) + "\n]")
    with pytest.raises(DatasetError, match=words) as caught:
        memory.import_file(path, format=name)
    assert caught.value.line == json.dumps(good, indent=1).count("\n") + 3


@pytest.mark.parametrize(
    ("raw", "line", "words"),
    [
        (b'{"prompt": "a", "target": "b"}\n{"prompt": \n', 2, "not JSON"),
        (b'{"prompt": "a", "target": "b"}\n[1]\n', 2, "expected a JSON object, got list"),
        (b'{"prompt": "a", "target": NaN}\n', 1, "NaN is not a JSON number"),
        (b'{"prompt": "a", "target": "b"}\n{"prompt": "\xff"}\n', 2, "not UTF-8: byte 0xff"),
        (b'[{"prompt": "a", "target": "b"}\n', 2, "ends in the middle"),
        (b'[{"prompt": "a", "target": "b"},\n', 1, "never closed"),
        (b'[{"prompt": "a", "target": "b"}\n{"prompt": "c"}]', 2, "lacks a comma"),
        (b"[1]", 1, "expected a JSON object, got int"),
        (b'{"results": [\n{"memory": 3}]}', 2, "expected text"),
    ],
)
def test_a_file_that_is_no_data_is_named(memory: EditMemory, tmp_path: Path, raw: bytes, line: int, words: str) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(raw)
    with pytest.raises(DatasetError, match=words) as caught:
        memory.import_file(path)
    assert caught.value.line == line
    assert memory.revision == 0


def test_files_that_cannot_be_opened(memory: EditMemory, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        memory.import_file(tmp_path / "absent.jsonl")
    with pytest.raises(DatasetError, match="directory"):
        memory.import_file(tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'zsre'"):
        memory.import_file(tmp_path / "x", format="zrse")
    with pytest.raises(UnknownNameError):
        memory.export(tmp_path / "x", format="csv")
    with pytest.raises(StoreError, match="export cannot be written"):
        memory.export(tmp_path / "no" / "out.jsonl")
    assert memory.import_file(write(tmp_path / "empty.jsonl")).ids == ()


def test_policies_per_import(memory: EditMemory, tmp_path: Path) -> None:
    path = write(
        tmp_path / "twice.jsonl",
        {"prompt": "The tower is in", "target": "Rome"},
        {"prompt": "the tower is in", "target": "Oslo"},
    )
    with pytest.raises(ConflictError, match=r"twice\.jsonl, line 2: same prompt"):
        memory.import_file(path)
    assert memory.revision == 0
    report = memory.import_file(path, on_conflict="supersede")
    assert len(report.added) == 2
    assert report.superseded == (report.ids[0],)
    assert [edit.target for edit in memory.list()] == ["Oslo"], "the later row wins"
    revision = memory.revision
    again = memory.import_file(path, on_conflict="supersede")
    assert again.added == ()
    assert again.ids == report.ids
    assert memory.revision == revision, "importing the same file again changes nothing"
    with EditMemory(encoder=memory.encoder) as both:
        report = both.import_file(path, on_conflict="keep")
        assert len(both.list()) == 2
        (conflict,) = report.conflicts
        assert (conflict.new_id, conflict.existing_id) == (report.ids[1], report.ids[0])


def test_ids_and_states_come_back_but_never_collide(memory: EditMemory, tmp_path: Path) -> None:
    first = memory.add("a b c", "x")
    memory.update(first.id, state="pending")
    path = tmp_path / "edits.jsonl"
    memory.export(path)
    with EditMemory(encoder=memory.encoder) as other:
        other.import_file(path)
        assert other.get(first.id).state is EditState.PENDING
    report = memory.import_file(path, namespace="copy")
    assert report.added[0] != first.id, "ids are unique in a store"
    assert memory.get(report.added[0], namespace="copy").prompt == "a b c"


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "name", "rows"),
    [
        ("counterfact_train.jsonl", "counterfact", 10_000),
        ("zsre_dev.jsonl", "zsre", 1_500),
        ("wikibigedit_dev.jsonl", "counterfact", 1_500),
        ("knowedit_counterfact_dev.jsonl", "knowedit", 800),
        ("knowedit_recent_dev.jsonl", "knowedit", 320),
        ("wikibio_dev.jsonl", "knowedit", 200),
    ],
)
def test_the_published_files_are_read_whole(data_dir: Path, file: str, name: str, rows: int) -> None:
    from memedit.memory.formats import read_drafts

    auto, named = read_drafts(data_dir / file, "auto"), read_drafts(data_dir / file, name)
    assert auto.drafts == named.drafts
    assert len(named.drafts) == rows
    assert all(draft.subject for draft in named.drafts)


@pytest.mark.data
def test_counterfact_contradictions_are_resolved_by_the_later_row(
    memory: EditMemory, data_dir: Path, tmp_path: Path
) -> None:
    lines = (data_dir / "counterfact_train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if "twin city" in line or "mother tongue" in line]
    path = write(tmp_path / "part.jsonl", *rows)
    by_prompt = {row["prompt"].casefold().strip(" ?"): row["target_new"] for row in rows}
    report = memory.import_file(path, on_conflict="supersede")
    live = {edit.prompt.casefold().strip(" ?"): edit.target for edit in memory.list()}
    assert len(report.ids) == len(rows)
    assert all(target == by_prompt[prompt] for prompt, target in live.items())
    assert len(live) == len(memory.list())
    assert len(report.superseded) > 20
