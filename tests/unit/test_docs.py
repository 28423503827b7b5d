"""The pages: every command they show exists with its options, and they stay short, plain and true to the benchmarks."""

import ast
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from memedit.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for page in ROOT.glob("docs/**/*.md") if "reference" not in page.parts)
OTHERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "indexes/README.md")]
MOST_WORDS = 25_000
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = frozenset({"", "sh", "bash", "console"})
SPAN = re.compile(r"(?<!`)`((?:[A-Z_]+=\S+ )*memedit(?: [^`\n]*)?)`(?!`)")
ENDS = frozenset("|;&<>()")
COMMAND = typer.main.get_command(app)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def command_lines(text: str) -> list[list[str]]:
    """Return the words behind ``memedit`` of every command in a page's shell blocks and code spans."""
    lines = SPAN.findall(BLOCK.sub("", text))
    for language, block in BLOCK.findall(text):
        if language in SHELL:
            lines += block.replace("\\\n", " ").splitlines()
    found: list[list[str]] = []
    for line in lines:
        for words in words_of(line.removeprefix("$ ")):
            named = [word for word in words if not re.match(r"[A-Z_]+=", word)]
            if named[:1] == ["memedit"]:
                found.append(named[1:])
    return found


def words_of(line: str) -> list[list[str]]:
    """Split a line into its commands and these into words; the text of a comment is left out."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="".join(ENDS))
    reader.whitespace_split = True
    commands: list[list[str]] = [[]]
    try:
        for word in reader:
            if set(word) <= ENDS:
                commands.append([])
            else:
                commands[-1].append(word)
    except ValueError:  # a text with an apostrophe, no command
        return []
    return commands


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """Follow the words to the command that they name.

    Raises:
        AssertionError: a group has no such command.
    """
    command = COMMAND
    while hasattr(command, "get_command") and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        found = command.get_command(typer.Context(command), words[0])
        if found is None and command.invoke_without_command:
            break
        assert found is not None, f"{command.name} has no command {words[0]!r}"
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("page", [page for page in [*PAGES, *OTHERS] if page.exists()], ids=name)
def test_every_command_exists_with_the_options_that_are_shown(page: Path) -> None:
    for words in command_lines(page.read_text("utf-8")):
        command, rest = resolve(words)
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        known |= {"--help", "-h"}
        shown = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert shown <= known, f"memedit {' '.join(words)}: no option {sorted(shown - known)}"


def test_every_shown_command_has_help() -> None:
    paths = set()
    for page in [*PAGES, *OTHERS]:
        for words in command_lines(page.read_text("utf-8")) if page.exists() else ():
            _, rest = resolve(words)
            paths.add(tuple(words[: len(words) - len(rest)]))
    assert len(paths) > 30
    for path in sorted(paths):
        result = CliRunner().invoke(app, [*path, "--help"])
        assert result.exit_code == 0, path
        assert "Usage" in result.output, path


def test_the_reader_of_pages_finds_commands() -> None:
    text = "```sh\nA=1 memedit edit add 'x' && memedit ask \\\n  \"y\" --json | tee # no\n```\nand `memedit chat`"
    assert command_lines(text) == [["chat"], ["edit", "add", "x"], ["ask", "y", "--json"]]
    with pytest.raises(AssertionError, match="no command"):
        resolve(["edit", "frobnicate"])


@pytest.mark.parametrize("page", [page for page in [*PAGES, *OTHERS] if page.exists()], ids=name)
def test_names_and_files_that_pages_mention_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    for language, block in BLOCK.findall(text):
        for statement in ast.walk(ast.parse(block)) if language == "python" else ():
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("memedit"):
                assert [alias.name for alias in statement.names if not found(str(statement.module), alias.name)] == []
    for path in re.findall(r"`((?:memedit|tests|configs|examples|docs|packages)/[\w/.-]+)`", text):
        assert (ROOT / path).exists() or re.search(r"NAME|NNNN|PAGE", path), path


def found(module: str, name: str) -> bool:
    """Whether ``from module import name`` works."""
    if name == "*" or hasattr(importlib.import_module(module), name):
        return True
    return importlib.util.find_spec(f"{module}.{name}") is not None


def test_the_pages_stay_short() -> None:
    """Words are what has a letter or digit between blanks, code and figures included."""
    words = {name(page): len(re.findall(r"\S*\w\S*", page.read_text("utf-8"))) for page in PAGES}
    assert sum(words.values()) <= MOST_WORDS, sorted(words.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("page", [page for page in [*PAGES, *OTHERS] if page.exists()], ids=name)
def test_the_prose_is_plain(page: Path) -> None:
    """Phrases that translate badly and that a plainer verb replaces."""
    text = " ".join(page.read_text("utf-8").split())
    assert re.findall(r"stands? in\b|speaks? for\b|by turns\b|what became of", text, re.IGNORECASE) == []


def test_the_readme_has_absolute_links_to_files_that_exist() -> None:
    """PyPI shows the README without the files beside it."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets
    for target in targets:
        path = re.fullmatch(re.escape(urls["Homepage"]) + r"/(?:blob|tree|raw)/main/([^#?]+)(?:[#?].*)?", target)
        assert path is not None, target
        assert (ROOT / path[1]).exists(), target


def test_the_figures_of_the_readme_are_those_of_the_benchmarks() -> None:
    table = re.search(r"^\|.*?\n\n", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert table
    figures = re.findall(r"\d[\d,]*(?:\.\d+)?", table[0])
    assert len(figures) >= 6
    benchmarks = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    for figure in figures:
        assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d]|[.,]\d)", benchmarks), figure
