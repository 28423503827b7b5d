"""find_subject on wordings of several forms and languages, and how well it does on published data."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.index import find_subject
from memedit.index.words import words


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("The mother tongue of Maria Lindgren is", "Maria Lindgren"),
        ("Maria Lindgren, the", "Maria Lindgren"),
        ("Where was Ibrahim van der Berg born?", "Ibrahim van der Berg"),
        ("What was Maria Lindgren's occupation?", "Maria Lindgren"),
        ("Who directed The Silent Orchard?", "The Silent Orchard"),
        ("The Harbor Bridge disaster is remembered in", "Harbor Bridge disaster"),
        ("When did Alderberg station open?", "Alderberg station"),
        ("In which historic county of Great Britain is Ashford Hall located?", "Ashford Hall"),
        ('In what year was the song "Blue Lantern" released?', "Blue Lantern"),
        ("The author of Using small models for large edits is", "Using small models for large edits"),
        ("The name of the award Otto Keller won is", "Otto Keller"),
        ("In Alderberg, the language spoken is", "Alderberg"),
        ("who wrote the song about harbor lights?", "song about harbor lights"),
        ("sourdough is eaten in", "sourdough"),
        ("Die Hauptstadt von Frankreich ist", "Frankreich"),
        ("La capitale de la France est", "France"),
        ("¿Cuál es la capital de España?", "España"),
        ("Кто президент Франции?", "Франции"),
        ("东京的人口是多少？", "东京"),
        ("日本の首都はどこですか", "日本"),
        ("한국의 수도는 어디입니까?", "한국"),
    ],
)
def test_examples(prompt: str, subject: str) -> None:
    assert find_subject(prompt) == subject


def test_a_span_that_gives_the_answer_away_is_the_last_choice() -> None:
    assert find_subject("Paris is the home of Maria Lindgren", target="Paris") == "Maria Lindgren"


@pytest.mark.parametrize("prompt", ["", "   ", "???", "\n"])
def test_nothing_to_find(prompt: str) -> None:
    assert find_subject(prompt) is None


@given(st.text(max_size=200), st.one_of(st.none(), st.text(max_size=20)))
def test_what_is_found_stands_in_the_prompt(prompt: str, target: str | None) -> None:
    found = find_subject(prompt, target)
    assert found is None or (found in prompt and found)


def test_a_megabyte_is_quick() -> None:
    assert find_subject("The mayor of Oslo " * 60_000) is not None


def _alike(found: str | None, gold: str) -> tuple[bool, bool]:
    """Same words but for a leading article; and word F1 of at least one half."""
    a = [w.folded for w in words(found or "")]
    b = [w.folded for w in words(gold)]
    a, b = (x[1:] if x[:1] in (["the"], ["a"], ["an"]) else x for x in (a, b))
    shared = 2 * len(set(a) & set(b)) / max(1, len(set(a)) + len(set(b)))
    return a == b, shared >= 0.5


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "field", "exact", "overlap"),
    [
        ("counterfact_train", "prompt", 0.97, 0.99),
        ("zsre_dev", "src", 0.96, 0.98),
        ("wikibigedit_dev", "prompt", 0.84, 0.93),
        ("knowedit_counterfact_dev", "prompt", 0.95, 0.98),
        ("knowedit_recent_dev", "prompt", 0.96, 0.98),
        ("qaedit_dev", "prompt", 0.40, 0.63),
    ],
)
def test_agreement_with_the_subjects_of_published_data(
    data_dir: Path, file: str, field: str, exact: float, overlap: float
) -> None:
    rows = [json.loads(line) for line in (data_dir / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()][:2000]
    scores = [_alike(find_subject(row[field]), row["subject"]) for row in rows]
    assert sum(e for e, _ in scores) / len(rows) >= exact
    assert sum(o for _, o in scores) / len(rows) >= overlap
