"""How texts may be spelled: what is one edit, what are two, and which of two a query means."""

import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memedit.memory import EditMemory
from memedit.memory.normal import nearest_spelling


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("Wer leitet das Café Müller?", "Ute"), (decomposed("Wer leitet das Café Müller?"), "Ute")),
        (("Who owns the Heron?", "Tess"), ("who owns the heron?  ", " Tess")),
        (("Who owns the Heron?", "Zoë"), ("\tWHO OWNS THE HERON?\n", decomposed("Zoë"))),
        ((decomposed("ΣΑΣ άΐ?"), "x"), ("σας άΐ?", "x")),
    ],
)
def test_one_edit_however_it_is_spelled(memory: EditMemory, first: tuple[str, str], second: tuple[str, str]) -> None:
    kept = memory.add(*first)
    assert memory.add(*second).id == kept.id
    (edit,) = memory.list()
    assert (edit.prompt, edit.target) == first, "the first stays to the letter"


def test_a_subject_is_found_whole_in_decomposed_text(memory: EditMemory) -> None:
    assert memory.add(decomposed("Wer leitet das Café Müller?"), "Ute").subject == "Café Müller"


def test_what_differs_otherwise_is_another_edit(memory: EditMemory) -> None:
    memory.add("When was it built?", "1957", subject="Heron")
    others = [
        {"subject": "Kestrel"},
        {"subject": "Heron", "paraphrases": ("In which year?",)},
        {"subject": "Heron", "valid_at": datetime(2026, 1, 1, tzinfo=UTC)},
    ]
    for fields in others:
        memory.add("When was it built?", "1957", on_conflict="keep", **fields)  # type: ignore[arg-type]
    assert len(memory.list()) == 1 + len(others)


def test_an_accent_tells_two_edits_apart(memory: EditMemory) -> None:
    for prompt, target in (("Who is Zoë Marsh?", "a painter"), ("Who is Zoe Marsh?", "a pilot"), ("Who is Tom?", "x")):
        memory.add(prompt, target)
    assert len(memory.list()) == 3

    def found(query: str) -> set[str]:
        (row,) = memory.candidates(memory.encoder.encode_tokens([query]))
        return {candidate.edit.target for candidate in row} - {"x"}

    for query in ("Who is Zoë Marsh?", "who is ZOË marsh", decomposed("So Zoë Marsh, who is she?")):
        assert found(query) == {"a painter"}
    assert found("Who is Zoe Marsh?") == {"a pilot"}
    assert found("Who is Zoé Marsh?") == {"a painter", "a pilot"}, "neither is spelled so"
    memory.delete(next(edit.id for edit in memory.list() if edit.target == "a pilot"))
    assert found("Who is Zoe Marsh?") == {"a painter"}, "without the other, an accent may be left out"


def test_only_prompts_that_are_the_same_but_for_accents_rule_each_other_out() -> None:
    prompts = ["Who leads Café Müller?", "When does Cafe Muller open?", "Who leads Cafe Muller?", "Who leads Søborg?"]
    assert nearest_spelling("Who leads Café Müller?", prompts) == [True, True, False, True]
    assert nearest_spelling("Who leads Soborg?", ["Who leads Søborg?", "Who leads Soborg?"]) == [False, True]


@pytest.mark.parametrize("given", [datetime(2026, 1, 1), "2026-01-01", "2026-01-01T00:00:00"])
def test_a_time_without_a_zone_is_utc_and_says_so(memory: EditMemory, given: object) -> None:
    with pytest.warns(UserWarning, match=r"valid_at: 2026-01-01T00:00:00 has no time zone and is taken as UTC"):
        edit = memory.add("Who leads Norvik?", "Ada", valid_at=given)  # type: ignore[arg-type]
    assert edit.valid_at == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.warns(UserWarning, match="when: "):
        memory.as_of(datetime(2036, 1, 1))


@pytest.mark.filterwarnings("error")
def test_an_import_notes_times_without_a_zone_once(memory: EditMemory, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "question,answer,valid from\na b?,c,2026-01-01\nd e?,f,2026-02-01T10:00:00+02:00\ng?,h,2026-03-01\n"
    )
    report = memory.import_file(path)
    assert [edit.valid_at for edit in memory.list()] == [
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 2, 1, 8, tzinfo=UTC),
        datetime(2026, 3, 1, tzinfo=UTC),
    ]
    assert [note.startswith("row 1 (line 2), and others like it: 2026-01-01T00:00:00 has no") for note in report.notes]
    assert len(report.notes) == 1
