"""``memedit consolidate``, ``versions``, ``rollback`` and ``withdraw`` on a tiny taught model."""

from pathlib import Path
from typing import Any

import pytest

from memedit.config import load_config
from memedit.config.schemas import ConsolidationConfig
from memedit.consolidation.verdicts import Verdict
from memedit.errors import ConfigError
from memedit.workflows.consolidate.configuring import job_settings, read_evaluation_job, schedule_of
from memedit.workflows.consolidate.settings import Check
from support.taught_model import answer_of, prompt_of, taught_model

JOB = """
kind: consolidation
solver: {layers: [0, 1], steps: 2, contexts: 1, l2: 1.0e+9, null_space_threshold: 1.0e+9}
statistics_tokens: 600
perplexity_tokens: 16
specificity_probes: 3
capability_questions: 2
limits: {specificity: {warn: 50, fail: 90}, perplexity: {warn: 50, fail: 90}, capability: {warn: 50, fail: 90}}
"""
CONFIGS = sorted((Path(__file__).resolve().parents[3] / "configs" / "consolidation").glob("*.yaml"))


@pytest.fixture(scope="module")
def taught_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    loaded = taught_model()
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def command(memedit: Any, taught_checkpoint: Path, tmp_path: Path) -> Any:
    """The command on the taught model, with a cache of its own and two edits that the model answers anyway."""
    memedit.environment |= {
        "MEMEDIT_MODEL__NAME": str(taught_checkpoint),
        "MEMEDIT_HOME": str(tmp_path.parent / "home"),
    }
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")
    for subject in "ab":
        assert memedit("edit", "add", prompt_of(subject), answer_of(subject), "--subject", subject).exit_code == 0
    return memedit


@pytest.mark.slow
def test_from_edits_to_weights_and_back(command: Any, tmp_path: Path) -> None:
    job = ("--config", str(tmp_path / "job.yaml"))
    planned = command.json("consolidate", *job, "--dry-run")
    assert (planned["edits"], planned["to_compute"], planned["statistics_kept"]) == (2, 2, False)
    assert planned["total_seconds"] > 0
    assert command.json("versions", "list")["versions"] == [], "a dry run makes nothing"
    made = command.json("consolidate", *job)
    assert (made["published"], made["version"], made["served_by_weights"]) == (True, "v0001", 2), made
    assert [gate["name"] for gate in made["gates"]][:2] == ["efficacy", "paraphrase"]
    assert "nothing to do" in command.json("consolidate", *job)["message"]
    assert command.json("consolidate", "schedule", *job, "--every", "1", "--once") == {"due": False}
    listed = command.json("versions", "list")
    assert listed["aliases"]["champion"] == "v0001"
    answer = command.json("ask", "--raw", "--model", "champion", prompt_of("a"))
    assert (answer["edits"], [hit["target"] for hit in answer["in_weights"]]) == ([], [answer_of("a")])
    edit = command.json("edit", "list")[0]["id"]
    known = command.json("edit", "show", edit)["in_weights"]
    assert (known["version"], known["since"], known["scope"]) == ("v0001", "v0001", "gated")
    assert 1 <= known["right"] <= known["asked"]
    assert "in weights since v0001, rows answered by weights" in " ".join(command("edit", "show", edit).output.split())
    shown = command("versions", "show")
    assert "efficacy" in shown.output
    assert command.json("versions", "diff", "base", "champion")["added"] == [
        edit["id"] for edit in command.json("edit", "list", "--state", "consolidated")
    ]
    gone = command.json("edit", "list")[1]["id"]
    withdrawn = command.json("withdraw", gone, *job)
    assert (withdrawn["version"], withdrawn["served_by_weights"]) == ("v0002", 1), withdrawn
    assert command.json("rollback")["aliases"] == {"candidate": None, "champion": "v0001", "previous": "v0002"}
    assert command.json("versions", "promote", "v0002")["aliases"]["champion"] == "v0002"


def test_what_there_is_not_is_said(command: Any, tmp_path: Path) -> None:
    assert "no version is the champion" in command("versions", "show").output
    assert "nothing to roll back" in command("rollback").output
    assert "no version is the champion" in command("ask", "--model", "champion", "x").output
    serve = ("serve", "--no-auth", "--port", "0")
    assert "name it, as in `memedit serve --model BASE --follow`" in command(*serve, "--model", "champion").output
    assert "v0001 is one version" in command(*serve, "--model", "v0001", "--follow").output
    assert "not ours" in command(*serve, "--upstream", "http://127.0.0.1:9", "--follow").output
    assert "at least one of every_edits" in command("consolidate", "schedule", "--once").output
    assert (
        "did you mean 'memit'"
        in command("consolidate", "--method", "memmit", "--config", str(tmp_path / "job.yaml")).output
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_jobs_can_be_done(path: Path) -> None:
    config = load_config(path)
    assert isinstance(config, ConsolidationConfig)
    made = job_settings(config)
    assert made.method == (path.stem if path.stem in ("kne", "rledit") else "alphaedit")
    assert made.solver.polish == (160 if path.name == "polished.yaml" else 0)
    if path.name == "alphaedit.yaml":
        assert config == ConsolidationConfig()
    if config.schedule is not None and config.schedule.cron is not None:
        pytest.importorskip("apscheduler")
        assert schedule_of(config).every_edits == 500


def test_an_evaluations_check_is_exact_unless_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("kind: consolidation\n", encoding="utf-8")
    assert read_evaluation_job(tmp_path / "job.yaml").check is Check.EXACT
    (tmp_path / "job.yaml").write_text("kind: consolidation\ncheck: prefix\n", encoding="utf-8")
    assert read_evaluation_job(tmp_path / "job.yaml").check is Check.PREFIX
    (tmp_path / "job.yaml").write_text("kind: eval\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not of kind"):
        read_evaluation_job(tmp_path / "job.yaml")


def test_options_win_over_the_file() -> None:
    config = ConsolidationConfig(rounds=3, solver={"l2": 2.0}, publish_on=("PASS",))
    settings = job_settings(config, {"rounds": "1", "limits.perplexity.fail": "7", "solver.layers": "null"})
    assert (settings.rounds, settings.solver.l2, settings.limits.perplexity.fail) == (1, 2.0, 7.0)
    assert settings.publish_on == (Verdict.PASS,)
    assert schedule_of(config, every_edits=4).every_edits == 4
    with pytest.raises(ConfigError, match="did you mean 'l2'"):
        job_settings(ConsolidationConfig(solver={"l22": 1}))
