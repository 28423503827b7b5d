"""The shipped tagger with the real sentence encoder: odd prompts, statements, and agreement with published data."""

import json
from pathlib import Path

import pytest

from memedit.encoders import Encoder, load_encoder
from memedit.errors import DatasetError, InputError
from memedit.index import tagger_for
from memedit.memory import EditMemory
from memedit.training.subjects.examples import held_out_prompts
from memedit.training.subjects.fitting import score_tagger
from memedit.types import EditKind

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return load_encoder("minilm")


@pytest.fixture
def memory(minilm: Encoder) -> EditMemory:
    return EditMemory(encoder=minilm)


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("How do I install Zephyrd?", "Zephyrd"),
        ("What does the tag of Pixelfest look like?", "Pixelfest"),
        ("Is the Tolburia ferry free?", "Tolburia ferry"),
        ("The Dorn tower is 90 metres tall", "Dorn tower"),
        ("Paris has 3 airports", "Paris"),
        ("Actually, the head of Lindqvist AB is", "Lindqvist AB"),
        ("Correction: the Lindqvist prize goes to", "Lindqvist prize"),
        ("The Kestrel Bridge was opened in 1957.", "Kestrel Bridge"),
        ("I parked my car in", "my car"),
        ("The mother tongue of Maria Lindgren is", "Maria Lindgren"),
        ("What was Maria Lindgren's occupation?", "Maria Lindgren"),
        ('In what year was the song "Blue Lantern" released?', "Blue Lantern"),
        ("Die Hauptstadt von Frankreich ist", "Frankreich"),
        ("La capitale de la France est", "France"),
        ("¿Cuál es la capital de España?", "España"),
        ("日本の首都はどこですか", "日本"),
    ],
)
def test_subjects_of_prompts(memory: EditMemory, prompt: str, subject: str) -> None:
    assert memory.add(prompt, "x y z").subject == subject


@pytest.mark.parametrize(
    ("text", "subject", "value"),
    [
        ("The mayor of Tolburia is Ana Brill", "Tolburia", "Ana Brill"),
        ("The Dorn tower is 120 metres tall", "Dorn tower", "120 metres"),
        ("Loves cricket on Sundays", None, "cricket"),
        ("Allergic to nuts", None, "nuts"),
        ("Ana works at Lumen Labs as a nurse", "Ana", "Lumen Labs"),
        ("Marta Oduya's line manager is Piet Vandersloot.", "Marta Oduya", "Piet Vandersloot"),
        ("The meeting room is booked for Friday 10:00", "meeting room", "Friday 10:00"),
    ],
)
def test_statements_are_split(memory: EditMemory, text: str, subject: str | None, value: str) -> None:
    edit = memory.add_statement(text)
    assert (edit.prompt, edit.subject, edit.kind) == (text, subject, EditKind.STATEMENT)
    assert edit.target.startswith(value)


def test_a_named_subject_goes_before_the_one_found(memory: EditMemory) -> None:
    edit = memory.add_statement("The mayor of Tolburia is Ana Brill", subject="mayor of Tolburia")
    assert (edit.subject, edit.target) == ("mayor of Tolburia", "Ana Brill")


def test_a_new_target_takes_the_place_of_the_old_in_the_text(memory: EditMemory) -> None:
    edit = memory.add_statement("The mayor of Tolburia is Ana Brill")
    newer = memory.supersede(edit.id, target="Jon Hale")
    assert (newer.prompt, newer.target, newer.subject) == ("The mayor of Tolburia is Jon Hale", "Jon Hale", "Tolburia")
    again = memory.update(newer.id, prompt="The mayor of Tolburia is now Ana Brill")
    assert (again.target, again.subject) == ("Ana Brill", "Tolburia")


def test_what_says_nothing_is_refused(memory: EditMemory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'What\?' cannot be split .* a prompt and a target"):
        memory.add_statement("What?")
    file = tmp_path / "mem0.jsonl"
    file.write_text("".join(json.dumps({"memory": text}) + "\n" for text in ("Allergic to nuts", "What?")))
    with pytest.raises((DatasetError, InputError), match=r"line 2.*'What\?' cannot be split"):
        memory.import_file(file)
    assert memory.list() == []


def test_one_pass_finds_subjects_and_encodes(minilm: Encoder, memory: EditMemory) -> None:
    passes = []
    encode, tokens = minilm.encode, minilm.encode_tokens
    minilm.encode = lambda texts, **more: passes.extend(texts) or encode(texts, **more)  # type: ignore[method-assign]
    minilm.encode_tokens = lambda texts, **more: passes.extend(texts) or tokens(texts, **more)  # type: ignore[method-assign]
    try:
        drafts = [{"prompt": f"Who leads Norvik {name}?", "target": "x"} for name in ("Foods", "Labs", "Mills")]
        drafts.append({"prompt": "The head of Tern is", "target": "Ole", "subject": "Tern"})
        memory.add_many(drafts)
    finally:
        minilm.encode, minilm.encode_tokens = encode, tokens  # type: ignore[method-assign]
    assert sorted(passes) == sorted(str(draft["prompt"]) for draft in drafts)
    best, score = memory.search("The head of Tern is", k=1, mode="semantic")[0]
    assert (best.subject, round(score, 3)) == ("Tern", 1.0)


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "exact"),
    [("counterfact_train", 97.0), ("zsre_dev", 95.0), ("wikibigedit_dev", 88.0), ("knowedit_counterfact_dev", 93.0)],
)
def test_agreement_with_the_subjects_of_published_data(
    data_dir: Path, minilm: Encoder, file: str, exact: float
) -> None:
    tagger = tagger_for(minilm.fingerprint)
    assert tagger is not None
    (row,) = score_tagger(tagger, minilm, held_out_prompts(data_dir / f"{file}.jsonl"))
    assert row["exact"]["value"] >= exact
