"""The benchmark of a growing memory: what it fills it with, what it asks, and what it counts."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from memedit.bench.memory import run
from memedit.bench.memory_rows import inventory_edits, make_filling
from memedit.bench.memory_steps import in_process
from memedit.errors import InputError, MemeditError
from memedit.evaluation.datasets import DataFile, name_files
from memedit.evaluation.datasets.splits import is_training_row
from memedit.training.scope.inventory import FOLDER, read_families
from support.hashing_encoder import HashingEncoder


@pytest.fixture
def data(tmp_path: Path) -> list[DataFile]:
    """Twenty rows in zsRE's form; the strangers of the first five name the subject of another row."""
    rows = [
        {
            "src": f"Who runs the Velmora {n} works?",
            "alt": f"Ann {n}",
            "subject": f"Velmora {n}",
            "rephrase": f"The Velmora {n} works are run by whom?",
            "loc": f"nq question: who runs Velmora {n + 7} now" if n < 5 else f"nq question: how tall is hill {n}",
            "loc_ans": "x",
            "answers": ["x"],
        }
        for n in range(20)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name_files([path], [])


def test_a_smaller_filling_is_the_beginning_of_a_larger_one(data: list[DataFile]) -> None:
    small, large = (make_filling(data, count, queries=5, seed=3) for count in (30, 200))
    assert large.edits[:30] == small.edits
    assert len(large.edits) == 200
    own = [one for one in large.asked if one.own is not None]
    assert len(own) == 5
    for one in own:
        assert large.edits[one.own].subject in one.text
        assert not is_training_row(large.edits[one.own].prompt), "only rows that trained nothing are asked about"
    assert sum("Velmora" in edit.prompt for edit in large.edits) == 20
    assert not any("Velmora" in one.text for one in large.asked if one.own is None), "it names another row's subject"
    with pytest.raises(InputError, match="5 edits are asked about"):
        make_filling(data, 4, queries=5)


def test_the_inventory_goes_on_with_made_up_subjects() -> None:
    families = read_families([min(FOLDER.glob("science.jsonl"))])
    known = {subject for family in families for subject in family.subjects}
    count = sum(len(family.subjects) * len(family.relations) for family in families)
    edits = list(islice(inventory_edits(families), 3 * count))
    assert {edit.subject for edit in edits[:count]} == known
    assert all(edit.subject in edit.prompt and "{" not in edit.prompt for edit in edits)
    assert not known & {edit.subject for edit in edits[count:]}
    most = max(Counter((edit.prompt, edit.subject) for edit in edits).values())
    assert most == 1
    assert edits == list(islice(inventory_edits(families), 3 * count))


def test_figures_at_two_sizes(data: list[DataFile], tmp_path: Path) -> None:
    keep, said = tmp_path / "keep", list[str]()
    options = {"edits": (30, 90), "queries": 5, "scope": "subject", "folder": keep}
    found = run(data, encoder=HashingEncoder(), report=said.append, **options)  # type: ignore[arg-type]
    assert json.loads(json.dumps(found)) == found
    small, large = found["rows"]
    assert (small["import"]["rows"], large["import"]["rows"]) == (30, 60)
    for row in (small, large):
        right = row["fired"]["zsre"]["right"]
        assert (right["value"], right["n"]) == (100.0, 5)
        assert row["fired"]["all"]["silent"]["n"] >= 1
        assert row["with_scope_ms"]["p99"] >= row["with_scope_ms"]["p50"] > 0
        assert row["files"]["database_bytes"] > 0
        assert row["upkeep"]["index_rows"] > 0
    assert sum("importing" in line for line in said) == 2
    again = run(data, encoder=HashingEncoder(), report=said.append, **options)  # type: ignore[arg-type]
    assert sum("importing" in line for line in said) == 2, "what is there is not imported again"
    assert again["rows"][1]["import"] == large["import"]


def test_a_step_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(MemeditError, match="KeyError"):
        in_process("nothing", {})
