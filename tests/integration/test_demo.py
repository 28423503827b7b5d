"""The demonstration on the real small model."""

import json

import pytest
from typer.testing import CliRunner

from memedit.cli.main import app

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_the_demo_shows_corrections_in_force_and_everything_else_untouched() -> None:
    result = CliRunner(env={"HF_HUB_OFFLINE": "1"}).invoke(app, ["demo", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert len(report["edits"]) >= 10
    assert all(row["fired"] == [row["prompt"]] for row in report["edits"])
    assert all(row["fired"] for row in report["paraphrases"])
    assert all(row["identical"] and not row["fired"] for row in report["untouched"])
    assert report["chain"]["hops"] == ["Priya Raman", "Madurai"]
    assert report["chain"]["hops_left"] == ["Priya Raman", ""]
    assert report["chain"]["as_expected"]
    held = sum(row["as_expected"] for row in report["edits"])
    # the model before knows none of these facts, so that what holds is the edits' doing
    assert held >= len(report["edits"]) * 0.8
    assert not any(row["target"].casefold() in row["before"].casefold() for row in report["edits"])
