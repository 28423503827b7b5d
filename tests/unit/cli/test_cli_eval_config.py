"""``memedit eval --config``."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from memedit.cli import eval as evaluate
from memedit.cli.eval_config import option_defaults
from memedit.cli.failures import FAILED
from memedit.cli.main import app
from memedit.config import EvalConfig, load_config

SHIPPED = sorted((Path(__file__).resolve().parents[3] / "configs" / "eval").glob("*.yaml"))


def test_every_value_has_an_option() -> None:
    full = EvalConfig(
        data=("a.jsonl",), format=("zsre",), queries=3, probes_per_kind=1, perplexity="t", capability="c",
        scope={"threshold": 0.5},
    )  # fmt: skip
    options = {p.name for p in typer.main.get_command(evaluate.app).params}
    assert set(option_defaults(full)) <= options
    assert len(option_defaults(full)) == len(EvalConfig.model_fields) + 2  # model: name, dtype; scope: name, threshold


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_shipped_files_reach_the_command(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert isinstance(config, EvalConfig)
    words = ["eval", "--config", str(path), "--data", str(tmp_path / "absent.jsonl"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == FAILED
    assert "absent.jsonl" in result.stderr


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("kind: model\nname: x\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["eval", "--config", str(tmp_path / "c.yaml")])
    assert result.exit_code == FAILED
    assert "kind 'eval'" in result.stderr


def test_the_file_decides_unless_an_option_does(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("kind: eval\ndata: [in_file.jsonl]\n", encoding="utf-8")
    words = ["eval", "--config", str(tmp_path / "c.yaml")]
    assert "in_file.jsonl" in CliRunner().invoke(app, words).stderr
    assert "option.jsonl" in CliRunner().invoke(app, [*words, "--data", "option.jsonl"]).stderr
