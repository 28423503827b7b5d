"""Loaders take the published forms as they are and name what is wrong by file, line and field."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.errors import DatasetError, InputError, UnknownNameError
from memedit.evaluation.cases import ProbeKind
from memedit.evaluation.datasets import FORMATS, guess_format, name_files, read_cases
from memedit.evaluation.datasets.reading import read_records
from memedit.types import EditKind
from support.evaluation_cases import counterfact_rows, write_rows

COUNTERFACT = counterfact_rows()[0]
ZSRE = {
    "subject": "Orlanda", "src": "What is the capital of Orlanda?", "pred": "x", "rephrase": "Orlanda's capital?",
    "alt": "Vessin ", "answers": ["Aldport"], "loc": "nq question: who sings", "loc_ans": "Ada", "cond": "-",
}  # fmt: skip
WIKIBIGEDIT = {k: COUNTERFACT[k] for k in COUNTERFACT if k not in ("case_id", "ground_truth")}
KNOWEDIT = {
    "subject": "Orlanda", "prompt": "The capital of Orlanda is", "target_new": "Vessin", "ground_truth": "Aldport",
    "portability": {
        "Subject_Aliasing": [{"prompt": "The capital of the Salt Isle is", "ground_truth": "Vessin"}],
        "Reasoning": [
            {"prompt": "The mayor of the capital of Orlanda is", "ground_truth": [["Ada Ek", "A. Ek"], ["Bo Li"]]},
            {"prompt": "Nobody knows", "ground_truth": [[]]},
        ],
        "Logical_Generalization": [],
    },
    "locality": {
        "Relation_Specificity": [{"prompt": "The currency of Orlanda is", "ground_truth": [[]]}],
        "Forgetfulness": [{"prompt": "The capital of Orlanda, which is not Vessin, is", "ground_truth": "Aldport"}],
    },
}  # fmt: skip
QAEDIT = {
    "id": 1, "source": "NQ", "prompt": "what is the capital of orlanda", "target": "Vessin", "subject": "Orlanda",
    "rephrase": "orlanda's capital?", "locality": [{"loc": "who sings", "loc_ans": "Ada"}] * 2,
}  # fmt: skip
MQUAKE = {
    "case_id": 1,
    "requested_rewrite": [
        {"prompt": "{} is governed from", "subject": s, "target_new": {"str": t, "id": "Q1"},
         "target_true": {"str": "old", "id": "Q2"}, "question": f"Whence is {s} governed?"}
        for s, t in (("Orlanda", "Vessin"), ("Brelland", "Holm"))
    ],
    "questions": ["Who is mayor of the capital of Orlanda?", "Who governs the city that governs Orlanda? "],
    "answer": "Cy", "answer_alias": [], "new_answer": "Ada Ek", "new_answer_alias": ["A. Ek"],
}  # fmt: skip
UNKE = {"id": 1, "question": "Why Vessin?", "para_question": "How come Vessin?", "answer": "Because of the harbour."}
WIKIBIO = {
    "text": "This is a passage about ada ek.", "labels": "Ada Ek is a mayor.", "concept": "ada ek",
    "locality": {"Relation_Specificity": [{"prompt": "ada ek birthplace", "ground_truth": ["Vessin"]}]},
}  # fmt: skip
NESTED = {
    "case_id": 0,
    "requested_rewrite": {"prompt": "The capital of {} is", "subject": "Orlanda", "target_new": {"str": "Vessin"},
                          "target_true": {"str": "Aldport"}},
    "paraphrase_prompts": ["Orlanda is governed from", "Orlanda's seat is"],
    "neighborhood_prompts": ["The capital of Brelland is"],
}  # fmt: skip
ROWS = {
    "counterfact": COUNTERFACT, "zsre": ZSRE, "wikibigedit": WIKIBIGEDIT, "knowedit": KNOWEDIT, "qaedit": QAEDIT,
    "mquake": MQUAKE, "unke": UNKE, "wikibio": WIKIBIO,
}  # fmt: skip


def one(tmp_path: Path, row: dict, format: str):
    return next(read_cases(write_rows(tmp_path / "data.jsonl", [row]), format))


@pytest.mark.parametrize("format", ROWS)
def test_every_form_is_told_from_its_fields(tmp_path: Path, format: str) -> None:
    assert guess_format(write_rows(tmp_path / "x.jsonl", [ROWS[format]])) == format
    assert format in FORMATS


@pytest.mark.parametrize("format", ROWS)
def test_every_form_gives_edits_and_an_edit_probe_with_the_target(tmp_path: Path, format: str) -> None:
    case = one(tmp_path, ROWS[format], format)
    asked = [probe for probe in case.probes if probe.kind is ProbeKind.EDIT]
    assert [(p.prompt, p.answers[0]) for p in asked] == [(e.prompt, e.target) for e in case.edits]


def test_counterfact_contrasts_old_and_new_both_ways(tmp_path: Path) -> None:
    edit, paraphrase, neighbour = one(tmp_path, COUNTERFACT, "counterfact").probes
    assert (edit.contrast, paraphrase.contrast) == ("old", "old")
    assert (neighbour.answers, neighbour.contrast) == (("something",), "Vessin")


def test_counterfact_in_its_first_published_form(tmp_path: Path) -> None:
    case = one(tmp_path, NESTED, "counterfact")
    assert guess_format(tmp_path / "data.jsonl") == "counterfact"
    assert case.edits[0].prompt == "The capital of Orlanda is"
    assert [p.kind for p in case.probes] == ["edit", "paraphrase", "paraphrase", "locality"]


def test_knowedit_takes_lists_of_aliases_and_leaves_out_questions_without_answer(tmp_path: Path) -> None:
    probes = one(tmp_path, KNOWEDIT, "knowedit").probes
    by_kind = {kind: [p for p in probes if p.kind == kind] for kind in {p.kind for p in probes}}
    assert by_kind[ProbeKind.REASONING][0].answers == ("Ada Ek", "A. Ek", "Bo Li")
    assert len(by_kind[ProbeKind.REASONING]) == 1
    assert by_kind[ProbeKind.SPECIFICITY][0].answers == ()
    assert len(by_kind[ProbeKind.FORGETFULNESS]) == len(by_kind[ProbeKind.ALIAS]) == 1


def test_mquake_has_several_edits_and_aliases_of_the_answer(tmp_path: Path) -> None:
    case = one(tmp_path, MQUAKE, "mquake")
    hops = [p for p in case.probes if p.kind is ProbeKind.MULTI_HOP]
    assert [e.prompt for e in case.edits] == ["Orlanda is governed from", "Brelland is governed from"]
    assert [p.answers for p in hops] == [("Ada Ek", "A. Ek")] * 2
    assert [p.edit for p in case.probes if p.kind is ProbeKind.PARAPHRASE] == [0, 1]


def test_long_forms_are_marked(tmp_path: Path) -> None:
    for row, format in ((UNKE, "unke"), (WIKIBIO, "wikibio")):
        case = one(tmp_path, row, format)
        assert case.long_form
        assert case.edits[0].kind is EditKind.LONG_FORM


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"target_new": None}, "target_new", "expected a string, found null"),
        ({"target_new": 7}, "target_new", "expected a string, found 7"),
        ({"target_new": "  "}, "target_new", "blank"),
        ({"prompt": ["a"]}, "prompt", "expected a string"),
        ({"prompt": "broken \ud800"}, "prompt", "not valid Unicode"),
        ({"rephrase_prompt": ...}, "rephrase_prompt", "missing; this row has case_id"),
    ],
)
def test_a_bad_field_is_named_with_its_line(tmp_path: Path, change: dict, field: str, words: str) -> None:
    bad = {key: value for key, value in {**COUNTERFACT, **change}.items() if value is not ...}
    path = write_rows(tmp_path / "facts.jsonl", [COUNTERFACT, COUNTERFACT, bad])
    with pytest.raises(DatasetError) as caught:
        list(read_cases(path, "counterfact"))
    assert (caught.value.path, caught.value.line, caught.value.field) == ("facts.jsonl", 3, field)
    assert words in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "format", "field"),
    [
        ({**KNOWEDIT, "locality": {"Relation_Specificity": "x"}}, "knowedit", "locality.Relation_Specificity"),
        ({**KNOWEDIT, "locality": {"Nonsense": []}}, "knowedit", "locality.Nonsense"),
        ({**KNOWEDIT, "portability": {"Reasoning": [{"prompt": "p"}]}}, "knowedit",
         "portability.Reasoning[0].ground_truth"),
        ({**QAEDIT, "locality": [{"loc": "x", "loc_ans": "y"}, 3]}, "qaedit", "locality[1]"),
        ({**MQUAKE, "requested_rewrite": []}, "mquake", "requested_rewrite"),
        ({**MQUAKE, "requested_rewrite": [{**MQUAKE["requested_rewrite"][0], "prompt": "no place"}]}, "mquake",
         "requested_rewrite[0].prompt"),
        ({**MQUAKE, "new_answer_alias": [1]}, "mquake", "new_answer_alias[0]"),
        ({**UNKE, "answer": ""}, "unke", "answer"),
    ],
)  # fmt: skip
def test_a_bad_nested_field_is_named_by_its_path(tmp_path: Path, row: dict, format: str, field: str) -> None:
    with pytest.raises(DatasetError) as caught:
        one(tmp_path, row, format)
    assert (caught.value.line, caught.value.field) == (1, field)


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(min_value=1, max_value=400))
def test_a_file_cut_off_anywhere_never_passes_for_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = write_rows(folder / "whole.jsonl", [COUNTERFACT, COUNTERFACT, COUNTERFACT]).read_bytes()
    path = folder / "cut.jsonl"
    path.write_bytes(whole[:-cut])
    lines = len(whole.splitlines()[0]) + 1
    whole_lines = (len(whole) - cut + 1) // lines  # a cut final newline leaves a whole row
    if (len(whole) - cut) % lines in (0, lines - 1):
        assert len(list(read_cases(path, "counterfact"))) == whole_lines
        return
    with pytest.raises(DatasetError, match="may be cut off") as caught:
        list(read_cases(path, "counterfact"))
    assert caught.value.line == whole_lines + 1


def test_rows_before_a_damaged_line_are_streamed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(COUNTERFACT) + "\n{broken\n")
    rows = read_cases(path, "counterfact")
    assert next(rows).line == 1
    with pytest.raises(DatasetError, match="line 2"):
        next(rows)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no rows"),
        (b"\n \n", "no rows"),
        (b"[]", "no rows"),
        (b"[1]", "expected a JSON object, found 1"),
        (b'"text"\n', "expected a JSON object"),
        (b'{"a": "\xff"}\n', "line 1: not UTF-8"),
        (b'[{"prompt": "x"}, {"prom', "not valid JSON"),
        (b'[{"prompt": "x"}', "cut off"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        list(read_records(path))


def test_an_array_reads_as_its_lines_do(tmp_path: Path) -> None:
    rows = counterfact_rows()
    lines = write_rows(tmp_path / "a.jsonl", rows)
    array = tmp_path / "a.json"
    array.write_text("\ufeff" + json.dumps(rows, indent=1), encoding="utf-8")
    assert [c.edits for c in read_cases(array, "counterfact")] == [c.edits for c in read_cases(lines, "counterfact")]


def test_the_limit_counts_edits_not_cases(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl", [MQUAKE] * 3)
    assert [sum(len(c.edits) for c in read_cases(path, "mquake", limit=n)) for n in (2, 3, 4, 99)] == [2, 2, 4, 6]
    with pytest.raises(InputError, match="at least 1"):
        next(read_cases(path, "mquake", limit=0))


def test_names_and_formats_of_several_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = [write_rows(tmp_path / "a.jsonl", [ZSRE]), write_rows(tmp_path / "b.jsonl", [UNKE])]
    assert [f.name for f in name_files(paths, [])] == ["zsre", "unke"]
    twice = [paths[0], write_rows(tmp_path / "c.jsonl", [ZSRE])]
    assert [f.name for f in name_files(twice, ["zsre"])] == ["zsre/a", "zsre/c"]
    with pytest.raises(InputError, match="2 data files but 3 formats"):
        name_files(paths, ["zsre"] * 3)
    with pytest.raises(UnknownNameError, match="counterfact"):
        name_files(paths, ["counterfacts"])
    same = write_rows(tmp_path / "b" / "a.jsonl", [ZSRE])
    with pytest.raises(InputError, match="both be called zsre/a"):
        name_files([paths[0], same], ["zsre"])
    with pytest.raises(DatasetError, match="no known form"):
        guess_format(write_rows(tmp_path / "z.jsonl", [{"a": 1}]))


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "format", "edits"),
    [
        ("counterfact_train", "counterfact", 10_000), ("zsre_dev", "zsre", 1500),
        ("wikibigedit_dev", "wikibigedit", 1500), ("knowedit_counterfact_dev", "knowedit", 800),
        ("knowedit_recent_dev", "knowedit", 320), ("qaedit_dev", "qaedit", 400), ("mquake_cf_dev", "mquake", 188),
        ("unke_dev", "unke", 300), ("wikibio_dev", "wikibio", 200),
    ],
)  # fmt: skip
def test_the_published_files_load_whole(data_dir: Path, file: str, format: str, edits: int) -> None:
    path = data_dir / f"{file}.jsonl"
    assert guess_format(path) == format
    assert sum(len(case.edits) for case in read_cases(path, format)) == edits
