"""Labelled texts are labelled where they say, and the fitted network is the one that is evaluated."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from memedit.errors import DatasetError, InputError
from memedit.index.subject_tagging import SubjectTagger
from memedit.training.scope.inventory import FOLDER
from memedit.training.scope.rows import RewordedRow
from memedit.training.subjects.examples import (
    ExampleMaker,
    filled,
    held_out_prompts,
    plain_texts,
    prompt_text,
    read_sources,
    row_texts,
)
from memedit.training.subjects.fitting import (
    TaggerNetwork,
    TaggerSettings,
    alike,
    encode_examples,
    fit_tagger,
    score_tagger,
)
from support.hashing_encoder import HashingEncoder

NAMES = [f"{chr(65 + i % 26)}ola{i} B{i}rg" for i in range(40)]
ROWS = [RewordedRow(f"The mother tongue of {name} is", name, "x", (f"{name} speaks",)) for name in NAMES]
SLOTS = ("\ue000", "\ue001")


def test_sources_are_files_and_languages() -> None:
    names = {source.name for source in read_sources(sorted(FOLDER.glob("*.jsonl")))}
    assert {"science", "daily", "de", "ja", "languages_other"} <= names
    (japanese,) = (s for s in read_sources([FOLDER / "languages_other.jsonl"]) if s.name == "ja")
    assert "マリ・キュリー" in japanese.families[0].subjects
    with pytest.raises(InputError, match="no inventory file"):
        read_sources([])


@pytest.mark.parametrize(
    ("wording", "name", "text", "subject"),
    [
        ("{s} is {o}.", "the Dorn tower", "The Dorn tower is 4 m.", "Dorn tower"),
        ("How old is the {s}?", "the Dorn tower", "How old is the Dorn tower?", "Dorn tower"),
        ("Who wrote {s}", "The Silent Orchard", "Who wrote The Silent Orchard", "The Silent Orchard"),
        ("I parked {s} in {o}", "my car", "I parked my car in 4 m", "my car"),
        ("{s}'s age", "Ana", "Ana's age", "Ana"),
    ],
)
def test_the_article_stays_outside(wording: str, name: str, text: str, subject: str) -> None:
    made = filled(wording.replace("{s}", SLOTS[0]).replace("{o}", SLOTS[1]), name, "4 m", "x")
    assert (made.text, made.subject) == (text, subject)
    assert made.value == ("4 m" if "{o}" in wording else None)


def test_training_texts_are_the_same_for_the_same_seed_and_hold_no_slot() -> None:
    source = next(s for s in read_sources([FOLDER / "science.jsonl"]))
    texts = ExampleMaker(source, ROWS, 3).all(per_relation=1)
    assert texts == ExampleMaker(source, ROWS, 3).all(per_relation=1)
    assert texts != ExampleMaker(source, ROWS, 4).all(per_relation=1)
    assert not any(slot in text.text for text in texts for slot in SLOTS)
    for text in texts:
        assert all(text.text[a:b].strip() for a, b in (*text.subjects, *text.values))
    assert sum(not text.subjects for text in texts) > 10, "notes of the user name no subject"


def test_rows_are_labelled_where_their_subject_stands(tmp_path: Path) -> None:
    assert prompt_text("where is ola berg", "Ola Berg", "x").subject == "ola berg"  # type: ignore[union-attr]
    assert prompt_text("Where is Olaberg", "Ola", "x") is None
    assert {text.subject for text in row_texts(ROWS, 40, 0)} <= {row.subject for row in ROWS} | {
        row.subject.lower() for row in ROWS
    }
    with pytest.raises(DatasetError, match=r"nowhere\.jsonl"):
        held_out_prompts(tmp_path / "nowhere.jsonl")


def test_numpy_evaluates_the_network_that_torch_fits() -> None:
    encoder = HashingEncoder(16)
    settings = TaggerSettings(hidden=8)
    torch.manual_seed(0)
    network = TaggerNetwork(16, settings).eval()
    weights = {name: array.numpy() for name, array in network.state_dict().items()}
    (encoding,) = encoder.encode_tokens(["The mayor of Tolburia is Ana Brill"])
    (example,) = encode_examples([filled("The mayor of Tolburia is Ana Brill", "", "", "x")], encoder)
    x = torch.from_numpy(example.inputs.astype(np.float32))[None]
    with torch.inference_mode():
        theirs = network(x, torch.ones(1, x.shape[1], 1))[0].numpy()
    np.testing.assert_allclose(SubjectTagger(weights).scores(encoding), theirs, atol=2e-2)


def test_a_fitted_tagger_finds_subjects_by_their_place() -> None:
    encoder = HashingEncoder(32)
    source = next(s for s in read_sources([FOLDER / "science.jsonl"]))
    texts = row_texts(ROWS, 400, 0)
    examples = encode_examples(texts, encoder)
    weights = fit_tagger(examples, TaggerSettings(hidden=16, epochs=20, batch=8))
    again = fit_tagger(examples, TaggerSettings(hidden=16, epochs=20, batch=8))
    assert all(np.array_equal(weights[name], again[name]) for name in weights)
    asked = [prompt_text("The mother tongue of Zed Quark is", "Zed Quark", "x")]
    rows = score_tagger(SubjectTagger(weights), encoder, [text for text in asked if text])
    assert rows[0]["exact"]["value"] == 100.0
    report = score_tagger(SubjectTagger(weights), encoder, plain_texts(source, 1, random.Random(0)))
    assert {row["part"] for row in report} == {"subject", "value"}


def test_spans_are_alike_but_for_an_article() -> None:
    assert alike("the Dorn Tower", "Dorn tower") == (True, True)
    assert alike("Dorn", "Dorn tower") == (False, True)
    assert alike(None, None) == (True, True)
    assert alike(None, "x") == (False, False)
