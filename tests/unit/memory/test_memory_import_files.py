"""Files as people have them: tables, packed files, other tools' rows, Markdown, and rows that fail."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from memedit.errors import ConflictError, DatasetError, InputError, MissingExtraError, StoreError
from memedit.memory import EditMemory

RAIN = ("When does it rain in Sorn?", "in May")
ROAD = ("Where is the clinic?", 'Quay Road 4; "the blue door"')
PAIRS = [{"prompt": "a b?", "target": "c"}, {"prompt": "d e?", "target": "f"}, {"prompt": "g h?", "target_new": ""}]


def stored(memory: EditMemory) -> list[tuple[str, str]]:
    return [(edit.prompt, edit.target) for edit in memory.list()]


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


TABLE = 'prompt,target\n"When does it rain in Sorn?","in May"\nWhere is the clinic?,"Quay Road 4; ""the blue door"""\n'


def separated(mark: str) -> str:
    return (
        f'prompt{mark}target\n"When does it rain in Sorn?"{mark}"in May"\n'
        f'Where is the clinic?{mark}"Quay Road 4; ""the blue door"""\n'
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TABLE),
        ("a.csv", TABLE.replace("\n", "\r\n")),
        ("a.csv", b"\xef\xbb\xbf" + separated(";").encode()),
        ("a.csv", "sep=;\r\n" + separated(";")),
        ("a.txt", TABLE.encode("utf-16")),
        ("a.tsv", separated("\t")),
        ("a.TSV", separated("\t").encode("utf-16")),
        ("no ending", separated("|")),
        ("a.csv.gz", gzip.compress(separated(";").encode())),
    ],
)
def test_tables_are_read_however_they_are_written(
    memory: EditMemory, tmp_path: Path, name: str, content: str | bytes
) -> None:
    report = memory.import_file(put(tmp_path / name, content))
    assert stored(memory) == [RAIN, ROAD]
    assert report.notes == ()


def test_cells_keep_their_layout_and_optional_ones_may_be_empty(memory: EditMemory, tmp_path: Path) -> None:
    path = put(
        tmp_path / "a.csv",
        'Question;Answer;Subject;Owner;Valid from\n"How do I start?";"1. Get it.\n2. Run  it.\n";;ops;\n'
        "Who leads Norvik?;Ada;Norvik;;2026-01-01T00:00:00Z\n;;;;\n",
    )
    memory.import_file(path)
    first, second = memory.list()
    assert first.target == "1. Get it.\n2. Run  it.\n"
    assert (first.metadata, first.valid_at) == ({"Owner": "ops"}, None)
    assert (second.subject, second.metadata) == ("Norvik", {})
    assert second.valid_at is not None


def test_columns_are_mapped(memory: EditMemory, tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "Frage,Antwort\nWer leitet Norvik?,Ada\n")
    with pytest.raises(DatasetError, match=r"'Frage', 'Antwort'.*--map prompt=COLUMN"):
        memory.import_file(path)
    memory.import_file(path, columns={"prompt": "Frage", "target": "Antwort"})
    assert stored(memory) == [("Wer leitet Norvik?", "Ada")]
    with pytest.raises(DatasetError, match="'Antwrt'"):
        memory.import_file(path, columns={"prompt": "Frage", "target": "Antwrt"})
    with pytest.raises(InputError, match="promt"):
        memory.import_file(path, columns={"promt": "Frage"})


def test_a_table_that_is_no_utf8_is_guessed_and_says_so(memory: EditMemory, tmp_path: Path) -> None:
    text = "question;answer\nWer führt das Café Müller?;Jörg Weiß\nWas kostet das Menü dort?;12 €\n"
    path = put(tmp_path / "a.csv", text.encode("cp1252"))
    report = memory.import_file(path)
    assert stored(memory)[0] == ("Wer führt das Café Müller?", "Jörg Weiß")
    assert "cp1252" in report.notes[0]
    with pytest.raises(DatasetError, match="is not utf-8: byte 0xfc"):
        memory.import_file(path, encoding="utf-8")
    with pytest.raises(DatasetError, match="'utf-9' is not known"):
        memory.import_file(path, encoding="utf-9")


@pytest.mark.parametrize(
    ("content", "row", "field", "words"),
    [
        ("prompt,target\na b?,c\n\nd e?,\n", 2, "target", "is blank"),
        ("question,answer\na b?,c\nd e?,f,g\n", 2, None, "has 3 cells, but the header names 2"),
        ("prompt,target\na b?\n", 1, "target", "is blank"),
        ('prompt,target\na b?,"c\nd e?,f\ng h?,i\n', 1, None, "is a quotation mark closed"),
        ('prompt,target\na b?,c\n"d" e?,f\n', 2, None, "is a quotation mark closed"),
        ("prompt,target,prompt\na,b,c\n", None, None, "'prompt' stands twice"),
        ("prompt,,target\na,b,c\n", None, None, "column 2 has no name"),
        ("prompt,target,kind\na b?,c,fcat\n", 1, "kind", "unknown"),
    ],
)
def test_a_bad_row_of_a_table_is_named(
    memory: EditMemory, tmp_path: Path, content: str, row: int | None, field: str | None, words: str
) -> None:
    with pytest.raises(DatasetError, match=words) as caught:
        memory.import_file(put(tmp_path / "a.csv", content))
    assert (caught.value.row, caught.value.field) == (row, field)
    assert memory.revision == 0


LINES = "".join(json.dumps(dict(zip(("prompt", "target"), pair, strict=True))) + "\n" for pair in (RAIN, ROAD))


def test_packed_files_are_read_whatever_they_are_called(memory: EditMemory, tmp_path: Path) -> None:
    memory.import_file(put(tmp_path / "a.jsonl.gz", gzip.compress(LINES.encode())))
    assert stored(memory) == [RAIN, ROAD]
    assert memory.import_file(put(tmp_path / "a.jsonl", gzip.compress(LINES.encode()))).added == ()
    with pytest.raises(DatasetError, match="damaged or was cut"):
        memory.import_file(put(tmp_path / "cut.gz", gzip.compress(LINES.encode())[:-9]))
    bomb = gzip.compress(b" " * (65 << 20))
    with pytest.raises(DatasetError, match="unpacks to more than"):
        memory.import_file(put(tmp_path / "bomb.gz", bomb))


def test_zstandard_files_are_read(memory: EditMemory, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard", reason="needs the extra zstd")
    packed = zstandard.ZstdCompressor().compress(LINES.encode())
    both = zstandard.ZstdCompressor().compress(b'{"prompt": "x y?", "target": "z"}\n') + packed
    memory.import_file(put(tmp_path / "a.jsonl.zst", both))
    assert stored(memory) == [("x y?", "z"), RAIN, ROAD]
    with pytest.raises(DatasetError, match="damaged or was cut"):
        memory.import_file(put(tmp_path / "cut.zst", packed[:-3]))
    with pytest.raises(DatasetError, match="damaged or was cut"):
        memory.import_file(put(tmp_path / "bad.zst", packed[:10] + b"\xff" * 20))
    with pytest.raises(DatasetError, match="unpacks to more than"):
        memory.import_file(put(tmp_path / "bomb.zst", zstandard.ZstdCompressor().compress(b" " * (200 << 20))))


def test_zstandard_without_its_package_says_what_to_install(
    memory: EditMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"memedit\[zstd\]"):
        memory.import_file(put(tmp_path / "a.jsonl.zst", b"\x28\xb5\x2f\xfd" + bytes(20)))


@pytest.mark.parametrize(
    ("row", "prompt", "target", "subject"),
    [
        (
            {"prompt": "{} plays the sport of", "subject": "LeBron James", "target_new": {"str": " football"}},
            "LeBron James plays the sport of",
            "football",
            "LeBron James",
        ),
        ({"instruction": "Who owns the Heron?", "input": "", "output": "Tess"}, "Who owns the Heron?", "Tess", ...),
        (
            {"instruction": "Translate to Norse.", "input": "ship", "output": "skip"},
            "Translate to Norse.\nship",
            "skip",
            ...,
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Hello"},
                    {"role": "user", "content": [{"type": "text", "text": "Who owns the Heron?"}]},
                    {"role": "assistant", "content": "Tess"},
                ]
            },
            "Who owns the Heron?",
            "Tess",
            ...,
        ),
        ({"question": "Which port?", "answer": 6544}, "Which port?", "6544", ...),
        ({"prompt": "What does it cost?", "target": 1.10}, "What does it cost?", "1.1", ...),
        ({"prompt": "Who owns the Heron?", "completion": " Tess"}, "Who owns the Heron?", " Tess", ...),
    ],
)
def test_rows_of_other_tools_are_recognised(
    memory: EditMemory, tmp_path: Path, row: Any, prompt: str, target: str, subject: Any
) -> None:
    memory.import_file(put(tmp_path / "a.json", json.dumps([row])))
    (edit,) = memory.list()
    assert (edit.prompt, edit.target) == (prompt, target)
    assert subject is ... or edit.subject == subject


def test_a_number_is_an_answer_as_it_is_written(memory: EditMemory, tmp_path: Path) -> None:
    memory.import_file(
        put(tmp_path / "a.jsonl", '{"prompt": "What is the price?", "target": 1.10, "metadata": {"n": 2.50}}')
    )
    (edit,) = memory.list()
    assert (edit.target, edit.metadata) == ("1.10", {"n": 2.5})
    with pytest.raises(DatasetError, match="expected text, got bool"):
        memory.import_file(put(tmp_path / "b.jsonl", '{"prompt": "Is it open?", "target": true}'))


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "user", "content": "Hi"}], "no assistant's message follows a user's"),
        ("x", "expected a list"),
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None}], "expected text, got NoneType"),
    ],
)
def test_chats_without_a_question_and_answer_are_refused(
    memory: EditMemory, tmp_path: Path, messages: Any, words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        memory.import_file(put(tmp_path / "a.json", json.dumps([{"messages": messages}])), format="openai")


MARKED = """Our answers, as of today.

**Q: When does it rain in Sorn?**
A: in May

Q2. How do I start it?
A2. Like this:

```sh
# Q: no question
make  run
```

---
"""
HEADED = """# FAQ

## Opening

### When does it rain in Sorn?
in May

### How do I start it?

Like this:

```sh
# no heading
make  run
```
"""


@pytest.mark.parametrize("text", [MARKED, HEADED, MARKED.replace("\n", "\r\n")])
def test_questions_in_markdown_are_read(memory: EditMemory, tmp_path: Path, text: str) -> None:
    report = memory.import_file(put(tmp_path / "faq.md", text))
    code = "# Q: no question" if "# Q" in text else "# no heading"
    assert stored(memory) == [
        RAIN,
        ("How do I start it?", f"Like this:\n\n```sh\n{code}\nmake  run\n```"),
    ]
    assert [note[:1] for note in report.notes] == ["1" if "Q:" in text else "2"]


def test_a_question_without_an_answer_is_named(memory: EditMemory, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is blank") as caught:
        memory.import_file(put(tmp_path / "faq.md", "Q: One?\nA: yes\n\nQ: Two?\n"))
    assert (caught.value.row, caught.value.line, caught.value.field) == (2, 4, "answer")


@pytest.mark.parametrize("text", ["no question here\n", "w", "```\n# code\n```\n"])
def test_markdown_without_a_question_adds_nothing_and_says_so(memory: EditMemory, tmp_path: Path, text: str) -> None:
    report = memory.import_file(put(tmp_path / "faq.md", text))
    assert stored(memory) == []
    assert "before the first question" in report.notes[0]


def test_an_element_of_an_array_is_a_row(memory: EditMemory, tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", json.dumps(PAIRS))
    with pytest.raises(DatasetError, match=r"a\.json, row 3, field 'target_new': is blank.*\"g h\?\"") as caught:
        memory.import_file(path)
    assert (caught.value.row, caught.value.field) == (3, "target_new")


@pytest.mark.parametrize(
    ("name", "text", "refused"),
    [
        ("a.json", json.dumps(PAIRS), '[\n{"prompt": "g h?", "target_new": ""}\n]\n'),
        ("a.jsonl", '{"prompt": "a b?", "target": "c"}\n{oops\n{"prompt": "d e?", "target": "f"}\n', "{oops\n"),
        ("a.csv", 'question,answer\na b?,c\n"g\nh?",\nd e?,f\n', 'question,answer\n"g\nh?",\n'),
        ("a.md", "Q: a b?\nA: c\n\nQ: g h?\n\nQ: d e?\nA: f\n", "Q: g h?\n"),
    ],
)
def test_rows_that_cannot_be_used_are_set_aside(
    memory: EditMemory, tmp_path: Path, name: str, text: str, refused: str
) -> None:
    path = put(tmp_path / name, text)
    report = memory.import_file(path, skip_invalid=True)
    assert stored(memory) == [("a b?", "c"), ("d e?", "f")]
    assert len(report.refused) == 1
    assert report.refused_file is not None
    assert report.refused_file.name == f"a.refused{path.suffix}"
    assert report.refused_file.read_text() == refused
    again = memory.import_file(path, skip_invalid=True)
    assert again.refused_file is not None
    assert again.refused_file.name == f"a.refused-2{path.suffix}", "a file that somebody may be mending is left alone"


def test_nothing_is_left_behind_by_an_import_that_fails(memory: EditMemory, tmp_path: Path) -> None:
    memory.add("a b?", "other")
    path = put(tmp_path / "a.json", json.dumps(PAIRS))
    with pytest.raises(ConflictError, match=r"a\.json, row 1: same prompt"):
        memory.import_file(path, skip_invalid=True)
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(DatasetError, match="none of 1 rows can be used"):
        memory.import_file(put(tmp_path / "b.json", json.dumps(PAIRS[2:])), skip_invalid=True)


def test_a_folder_that_cannot_be_written_stops_the_import_first(
    memory: EditMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "a.json", json.dumps(PAIRS))

    opened = Path.open

    def refuse(self: Path, mode: str = "r", **options: Any) -> Any:
        if mode == "x":
            raise PermissionError(13, "Permission denied")
        return opened(self, mode, **options)

    monkeypatch.setattr(Path, "open", refuse)  # as root no folder's mode forbids anything
    with pytest.raises(StoreError, match="Permission denied; nothing was imported"):
        memory.import_file(path, skip_invalid=True)
    assert memory.list() == []


def test_a_rehearsal_writes_nothing_and_names_both_sides(memory: EditMemory, tmp_path: Path) -> None:
    old = memory.add("a b?", "other")
    revision = memory.revision
    path = put(tmp_path / "a.json", json.dumps([*PAIRS, {"prompt": "d e?", "target": "g"}]))
    for policy, retired in (("error", False), ("keep", False), ("supersede", True)):
        report = memory.import_file(path, on_conflict=policy, skip_invalid=True, dry_run=True)  # type: ignore[arg-type]
        assert len(report.added) == 3
        first, second = report.replacements
        assert (first.old_id, first.old_prompt, first.old_target) == (old.id, "a b?", "other")
        assert (first.new_prompt, first.new_target, first.retired) == ("a b?", "c", retired)
        assert (second.old_target, second.new_target) == ("f", "g"), "rows of one file contradict each other, too"
        assert report.dry_run
        assert len(report.refused) == 1
    assert (memory.revision, stored(memory)) == (revision, [("a b?", "other")])
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]
    done = memory.import_file(path, on_conflict="supersede", skip_invalid=True)
    assert [item.old_target for item in done.replacements] == ["other", "f"]
    assert memory.get(old.id).state.value == "retired"


ADA = ("Who runs the mill?", "Ada")
SORN = ("The mayor of Sorn is Bo Lind",) * 2
SHARED = [{"from": "human", "value": ADA[0]}, {"from": "gpt", "value": ADA[1]}]
IN_TABLE = "# FAQ\n\n| Question | Answer |\n|:--|---|\n| Who runs the mill? | Ada |\n\nEnd.\n"


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.csv", "\n \r\nprompt,target\nWho runs the mill?,Ada\n", ADA),
        ("a.tsv", "prompt\ttarget\nWho runs the mill?\tAda\n", ADA),
        ("a.tsv", 'prompt\ttarget\nWho is "Ada" Lind?\t"Ada" the miller\n', ('Who is "Ada" Lind?', '"Ada" the miller')),
        ("a.txt", "Q: Who runs the mill?\nA: Ada\n", ADA),
        ("a.txt", "The mayor of Sorn is Bo Lind\n\n", SORN),
        ("a.md", IN_TABLE, ADA),
        ("a.md", IN_TABLE.replace("| Ada |", r"| Ada \| Bo |"), (ADA[0], "Ada | Bo")),
        ("a.json", json.dumps({"edits": [{"prompt": ADA[0], "target": ADA[1]}]}), ADA),
        ("a.json", json.dumps({"prompt": ADA[0], "target": ADA[1]}, indent=2), ADA),
        ("a.json", json.dumps([SORN[0]]), SORN),
        ("a.jsonl", json.dumps({"fact": SORN[0]}), SORN),
        ("a.jsonl", json.dumps({"text": SORN[0], "source": "wiki"}), SORN),
        ("a.jsonl", json.dumps({"conversations": SHARED}), ADA),
        (
            "a.jsonl",
            json.dumps({"prompt": "{} plays", "subject": "LeBron James", "target_new": "golf"}),
            ("LeBron James plays", "golf"),
        ),
        (
            "a.jsonl",
            json.dumps({"prompt": "What does f'{x!r}{}' print?", "target_new": "it"}),
            ("What does f'{x!r}{}' print?", "it"),
        ),
    ],
)
def test_files_as_other_tools_and_people_write_them(
    memory: EditMemory, tmp_path: Path, name: str, content: str, wanted: tuple[str, str]
) -> None:
    memory.import_file(put(tmp_path / name, content))
    assert stored(memory) == [wanted]


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.xlsx", b"PK\x03\x04 and more", "spreadsheet"),
        ("a.db", b"SQLite format 3\x00 and more", "memedit edit export"),
        ("a.jsonl", json.dumps({"prompt": "{} plays", "target_new": "golf"}).encode(), "has a place for it"),
        (
            "a.jsonl",
            json.dumps({"prompt": "The {} of {} is", "subject": "Bo", "target_new": "golf"}).encode(),
            "more than one place",
        ),
    ],
)
def test_what_cannot_be_read_says_what_it_is(
    memory: EditMemory, tmp_path: Path, name: str, content: bytes, named: str
) -> None:
    with pytest.raises(DatasetError, match=named):
        memory.import_file(put(tmp_path / name, content))
    assert stored(memory) == []


def test_rows_set_aside_from_a_table_in_markdown_keep_its_header(memory: EditMemory, tmp_path: Path) -> None:
    path = put(tmp_path / "a.md", IN_TABLE.replace("\n\nEnd", "\n| Who owns it? | |\n\nEnd"))
    report = memory.import_file(path, skip_invalid=True)
    assert stored(memory) == [ADA]
    assert report.refused_file is not None
    again = Path(report.refused_file).read_text().replace("| |", "| Bo |")
    memory.import_file(put(tmp_path / "again.md", again))
    assert stored(memory) == [ADA, ("Who owns it?", "Bo")]
