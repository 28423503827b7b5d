"""The ingest benchmark measures what it says it does."""

import json
from pathlib import Path

import pytest

from memedit.bench.ingest import run
from support.hashing_encoder import HashingEncoder


def test_the_report_has_the_ratio_to_the_reference_of_the_same_run(tmp_path: Path) -> None:
    encoder = HashingEncoder(16)
    report = run(200, encoder=encoder, vector_rows=300, folder=tmp_path)
    assert json.loads(json.dumps(report)) == report
    bare = sum(report["bare_passes_s"]) / 2
    assert report["rows"] == 200
    assert report["of_bare"] * report["ingest_s"] == pytest.approx(bare, rel=0.1)
    assert report["vector_rows"] == 300
    assert report["vector_rows_per_s"] >= report["vector_indexed_rows_per_s"] > 0
    assert list(tmp_path.iterdir()) == [], "the database is removed afterwards"
    assert encoder.encoded >= 3 * 200, "the reference and the import encode the same texts"


def test_a_file_of_published_edits_can_be_the_source(tmp_path: Path) -> None:
    source = tmp_path / "edits.jsonl"
    rows = [{"case_id": i, "prompt": f"{i} plays the", "target_new": "piano", "subject": str(i)} for i in range(20)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run(10, encoder=HashingEncoder(16), source=source, vector_rows=0, folder=tmp_path)
    assert report["rows"] == 10
    assert "vector_rows" not in report
