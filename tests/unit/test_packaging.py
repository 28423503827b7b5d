"""What the distributions ask for and say of themselves."""

import ast
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def _project(folder: str = ".") -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def _requirements(extras: list[str]) -> set[str]:
    """Names of what an installation with these extras asks for, extras of its own followed."""
    project, names, todo = _project(), set(), list(extras)
    texts = list(project["dependencies"])
    while todo:
        texts += project["optional-dependencies"][todo.pop()]
    for requirement in map(Requirement, texts):
        if requirement.name == project["name"]:
            names |= _requirements(sorted(requirement.extras))
        else:
            names.add(requirement.name)
    return names


@pytest.mark.parametrize("extra", sorted(_project()["optional-dependencies"]))
def test_no_extra_brings_a_second_build_of_faiss(extra: str) -> None:
    assert {name for name in _requirements([extra]) if name.startswith("faiss")} == {"faiss-cpu"}


def test_both_distributions_have_one_version_that_the_changelog_describes() -> None:
    version = _project()["version"]
    assert _project("packages/memedit-weights")["version"] == version
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (weights,) = map(Requirement, _project()["optional-dependencies"]["weights"])
    assert weights.specifier.contains(version)


BY_OTHERS = {
    "anyio": "fastapi", "click": "typer", "h11": "uvicorn", "huggingface_hub": "transformers",
    "markupsafe": "jinja2", "sklearn": "scikit-learn", "starlette": "fastapi", "tokenizers": "transformers",
    "yaml": "pyyaml",
}  # fmt: skip
"""Imported names that are not their distribution's, and what brings them."""


def test_what_is_imported_is_asked_for() -> None:
    every = {name.replace("-", "_") for name in _requirements(list(_project()["optional-dependencies"]))}
    imported = {name for path in (ROOT / "memedit").rglob("*.py") for name in _imports(path)}
    outside = (
        imported - sys.stdlib_module_names - {"memedit", "datasets"}
    )  # statistics over a data set of the hub: the error names it
    assert {name for name in outside if BY_OTHERS.get(name, name).replace("-", "_") not in every} == set()


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        found |= {name.partition(".")[0] for name in names}
    return found


RUNTIME = ("client", "demo", "postgres", "server", "zstd")


def test_the_oldest_pins_are_the_lowest_versions_asked_for() -> None:
    project, pins = _project(), {}
    for line in (ROOT / "constraints" / "oldest.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            pins[pin.name] = Version(str(pin.specifier).removeprefix("=="))
    texts = [*project["dependencies"], *(text for name in RUNTIME for text in project["optional-dependencies"][name])]
    lowest = {found.name: _lowest(found) for found in map(Requirement, texts)}
    assert set(pins) == set(lowest)
    # a bound may name a series (2024.5) of which the pin is the first that exists
    others = {name for name, low in lowest.items() if pins[name].release[: len(low.release)] != low.release}
    assert others == set()


def _lowest(requirement: Requirement) -> Version:
    (bound,) = (Version(one.version) for one in requirement.specifier if one.operator == ">=")
    return bound
