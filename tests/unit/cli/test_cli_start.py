"""The command starts fast and fails in the documented ways."""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from memedit.cli.failures import CONFLICT, FAILED, INTERRUPTED, USAGE, MemeditGroup
from memedit.cli.main import app
from memedit.cli.options import Needs, command
from memedit.cli.session import Session
from memedit.errors import ConflictError, MemeditError, UnknownNameError

HEAVY = (
    "torch",
    "transformers",
    "faiss",
    "sentence_transformers",
    "sqlalchemy",
    "numpy",
    "scipy",
    "sklearn",
    "peft",
    "jinja2",
)


@pytest.mark.parametrize("module", ["memedit", "memedit.cli.main"])
def test_importing_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_takes_little_processor_time() -> None:
    # processor time, not wall time: the machine may be busy with other tests
    code = (
        "import time, sys\n"
        "from memedit.cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(time.process_time(), file=sys.stderr)\n"
    )
    took = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr)
        for _ in range(3)
    )
    assert took < 0.5


EDIT_COMMANDS = "add import list show update supersede rm restore history export search"
COMMANDS = [
    *["demo", "chat", "ask", "scope explain", "scope calibrate", "index verify", "index rebuild", "index stats"],
    *["models list", "models pull", "models check", "index vacuum", "eval", "eval suite", "eval scope"],
    "eval passages",
    *["bench retrieval", "bench ingest", "bench overhead"],
    *["train reader", "train scope", "train recipe", "train serac"],
    *[f"edit {name}" for name in EDIT_COMMANDS.split()],
]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_help_and_json(words: str) -> None:
    result = CliRunner().invoke(app, [*words.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert "--json" in result.stdout


def _failing(error: BaseException) -> typer.Typer:
    failing = typer.Typer(cls=MemeditGroup)
    inner = typer.Typer()

    @command(inner, "break", Needs.NOTHING)
    def break_it(session: Session) -> None:
        """Fail."""
        raise error

    @command(inner, "work", Needs.MEMORY)
    def work(session: Session) -> None:
        """Succeed."""
        session.output.emit({"memory": session.settings.memory}, lambda out: out.line(session.settings.memory))

    failing.add_typer(inner, name="inner")
    return failing


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemeditError("the reason"), FAILED),
        (UnknownNameError("the reason"), FAILED),
        (PermissionError(13, "the reason"), FAILED),
        (ConflictError(new_id="a", existing_id="b", reason="the reason"), CONFLICT),
    ],
)
def test_expected_errors_print_one_message(error: Exception, code: int) -> None:
    result = CliRunner().invoke(_failing(error), ["inner", "break"])
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "the reason" in result.stderr
    assert "Traceback" not in result.stderr


def test_in_json_mode_an_error_is_a_document() -> None:
    result = CliRunner().invoke(_failing(UnknownNameError("the reason")), ["inner", "break", "--json"])
    assert result.exit_code == FAILED
    assert json.loads(result.stdout) == {
        "error": {"type": "UnknownNameError", "message": "the reason", "exit_code": FAILED}
    }


def test_interrupting_ends_quietly() -> None:
    result = CliRunner().invoke(_failing(KeyboardInterrupt()), ["inner", "break"])
    assert result.exit_code == INTERRUPTED
    assert "Traceback" not in result.stderr


def test_wrong_usage_has_its_own_code() -> None:
    assert CliRunner().invoke(app, ["edit", "add"]).exit_code == USAGE
    assert CliRunner().invoke(app, ["edit", "import", "no/such/file.jsonl"]).exit_code == USAGE
    assert CliRunner().invoke(app, ["nonsense"]).exit_code == USAGE


def test_options_win_over_the_environment() -> None:
    runner = CliRunner(env={"MEMEDIT_MEMORY": "from-environment.db"})
    assert runner.invoke(_failing(MemeditError()), ["inner", "work"]).stdout == "from-environment.db\n"
    chosen = runner.invoke(_failing(MemeditError()), ["inner", "work", "--memory", "option.db", "--json"])
    assert json.loads(chosen.stdout) == {"memory": "option.db"}


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("memedit ")
