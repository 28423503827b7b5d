"""Scopes on files of asks, talks and families: what is read, and what the figures say."""

import json

import pytest

from memedit.errors import DatasetError
from memedit.evaluation.asks import read_asks
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from memedit.workflows.evaluate.answers import run_answers
from memedit.workflows.evaluate.asks import run_asks
from support.asking import Asking
from support.scope_bench import HashedWords
from support.tiny import tiny_model, tiny_tokenizer

ASKS = [
    {
        "kind": "1 wording",
        "edit": {"prompt": "Who leads Arn & Co?", "target": "Ida", "subject": "Arn & Co"},
        "ask": [
            {"q": "Who leads Arn & Co?", "expect": "edited"},
            {"q": [{"role": "user", "content": "Who leads Arn & Co?"}], "expect": "edited"},
            {"q": "How tall is Mount Bel?", "expect": "unchanged"},
            {"q": "Tell me who leads the shop, please", "expect": "edited"},
        ],
    }
]
TALK = {
    "kind": "pron",
    "turns": [["user", "I like Bel."], ["assistant", "Fine."], ["user", "How old is it?"]],
    "asks": [{"subject": "Bel", "question": "How old is Bel?"}],
    "not": ["Cor"],
}
FAMILY = {
    "family": "ship",
    "subjects": ["Arn", "Bel"],
    "near_subjects": [["Arn", "Arm"]],
    "relations": [
        {
            "id": name,
            "objects": ["red"],
            "questions": [f"What {name} has {{s}}?"],
            "statements": [f"{{s}} has the {name} {{o}}."],
            "cloze": [f"The {name} of {{s}} is"],
            "casual": [f"{{s}} {name}"],
            "yesno": [f"Has {{s}} the {name} {{o}}?"],
            "off": [f"Why has {{s}} a {name}?"],
        }
        for name in ("colour", "weight", "owner", "hue")
    ],
    "same": [["colour", "hue"]],
}


def write(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


def test_figures_count_what_fires(tmp_path):
    report = run_asks([write(tmp_path / "a.jsonl", *ASKS)], tmp_path / "out", scope="subject", encoder=HashedWords())
    rows = {row["kind"]: row["right"] for row in report["rows"]}
    assert (rows["1 wording, fires"]["n"], rows["1 wording, silent"]["n"]) == (3, 1)
    assert rows["1 wording, fires"]["value"] == pytest.approx(200 / 3, abs=1e-3)
    assert rows["1 wording, silent"]["value"] == 100.0
    assert [worst["text"] for worst in report["worst"]] == ["Tell me who leads the shop, please"]
    assert sum(row["n"] for row in report["reliability"]) >= 2
    assert json.loads((tmp_path / "out" / "asks.json").read_text())["rows"] == report["rows"]
    assert "Tell me who leads the shop" in (tmp_path / "out" / "asks.html").read_text()


def test_a_talk_stores_what_is_asked_and_the_same_of_the_others(tmp_path):
    asked = read_asks(write(tmp_path / "talks.jsonl", TALK))
    assert [edit.prompt for edit in asked.edits] == ["How old is Bel?", "How old is Cor?"]
    assert asked.asks[0].wanted == (0,)
    assert asked.asks[0].query[-1] == {"role": "user", "content": "How old is it?"}


def test_other_languages_ask_about_edits_in_english_under_both_names(tmp_path):
    texts = {
        code: {"questions": [f"{code}1 {{s}}?", f"{code}2 {{s}}"], "casual": f"{code}3 {{s}}"} for code in ("en", "ru")
    }
    relations = [{"id": name, "objects": ["x"], "text": texts} for name in ("mayor", "river")]
    row = {"family": "town", "subjects": ["Arn"], "local": {"ru": ["Арн"]}, "relations": relations}
    asked = read_asks(write(tmp_path / "towns.jsonl", row))
    assert [edit.prompt for edit in asked.edits] == ["en1 Arn?"]
    kinds = {ask.kind: (ask.query, ask.wanted) for ask in asked.asks}
    assert kinds["asked in ru, name too"] == ("ru3 Арн", (0,))
    assert kinds["asked in en"] == ("en3 Arn", (0,))
    assert kinds["other relation in ru"] == ("ru3 Arn", ())
    assert "other relation in en, name too" not in kinds


def test_a_family_stores_every_second_relation_and_asks_all(tmp_path):
    asked = read_asks(write(tmp_path / "ships.jsonl", FAMILY))
    stored = [edit.prompt for edit in asked.edits]
    assert len(stored) == 4, "two relations of two subjects"
    kinds = {ask.kind for ask in asked.asks}
    assert kinds == {"reworded", "casual", "unfinished", "yes/no", "other relation", "near subject", "look-alike"} - (
        set() if any(ask.kind == "reworded" for ask in asked.asks) else {"reworded"}
    )
    for ask in asked.asks:
        assert bool(ask.wanted) == (ask.kind in ("reworded", "casual", "unfinished", "yes/no"))
    assert not any("hue" in ask.query for ask in asked.asks), "hue may be colour, which is stored"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"ask": 3}',
        "not json",
        '{"kind": "x", "edit": {"prompt": "a", "target": "b"}, "ask": [{"q": "x", "expect": "?"}]}',
    ],
)
def test_other_files_are_refused_by_name(tmp_path, text):
    path = tmp_path / "bad.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(DatasetError, match=r"bad\.jsonl") as caught:
        read_asks(path)
    assert "Error(" not in str(caught.value)


def test_what_a_line_lacks_is_named(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "a", "target": "b"}', "utf-8")
    with pytest.raises(DatasetError, match="the field 'edit' is missing"):
        read_asks(path)


def test_answers_are_counted_where_the_edit_fires(tmp_path):
    asks = [
        {"q": "Who leads Arn & Co?", "expect": "edited", "must_contain": ["Ida|Ada"]},
        {"q": "Who leads Arn & Co, then?", "expect": "edited", "must_contain": ["Ida", "no such word"]},
        {"q": "Tell me who leads the shop, please", "expect": "edited", "must_contain": ["Ida"]},
        {"q": "How tall is Mount Bel?", "expect": "unchanged"},
    ]
    path = write(tmp_path / "a.jsonl", {**ASKS[0], "ask": asks}, {**ASKS[0], "kind": "2 other", "ask": asks[:1]})
    with EditMemory(encoder=HashedWords()) as memory:
        model = EditableModel.wrap(tiny_model(), tiny_tokenizer(), memory, scope="subject", adapter=Asking(0.9))
        report = run_answers(model, path, tmp_path / "out", kinds=["1"], max_new_tokens=6)
        with pytest.raises(DatasetError, match="no ask of kind 7"):
            run_answers(model, path, tmp_path / "out", kinds=["7"])
    (row,) = report["rows"]
    assert (row["kind"], row["fired"]["n"], row["right"]["n"]) == ("1 wording, fires", 3, 2)
    assert row["right"]["value"] == 50.0
    lacks = {answer["question"]: answer["lacks"] for answer in report["answers"]}
    assert lacks == {"Who leads Arn & Co?": "", "Who leads Arn & Co, then?": "'no such word'"}
    assert json.loads((tmp_path / "out" / "answers.json").read_text())["rows"] == report["rows"]
