"""The console's files as they are served."""

import re
from collections.abc import Iterator
from importlib import resources

import pytest
from fastapi.testclient import TestClient

from memedit.memory import EditMemory
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app
from support.scripted_upstream import ScriptedUpstream

FOLDER = resources.files("memedit.console")
FILES = sorted(entry.name for entry in FOLDER.iterdir() if entry.name.endswith((".html", ".js", ".css", ".svg")))


@pytest.fixture(scope="module")
def browser() -> Iterator[TestClient]:
    memory = EditMemory(":memory:", encoder=HashingEncoder())
    with memory, TestClient(proxy_app(memory, ScriptedUpstream(), auth=True)) as client:
        yield client


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_without_a_key_and_under_a_strict_policy(browser: TestClient, name: str) -> None:
    path = "/console" if name == "index.html" else f"/console/{name}"
    response = browser.get(path)
    assert response.status_code == 200
    assert response.content == FOLDER.joinpath(name).read_bytes()
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert browser.get(path, headers={"If-None-Match": response.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    "name", ["nothing.js", "__init__.py", "..%2f__init__.py", "%2e%2e/settings.py", "index.html%00"]
)
def test_nothing_else_is(browser: TestClient, name: str) -> None:
    assert browser.get(f"/console/{name}").status_code == 404


@pytest.mark.parametrize("name", FILES)
def test_no_file_loads_from_elsewhere_or_makes_markup_of_text(name: str) -> None:
    text = FOLDER.joinpath(name).read_text()
    found = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
    assert found == set()
    for danger in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "javascript:",
    ):
        assert danger not in text
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style|\sstyle=", text) or not name.endswith(".html")


def test_the_page_names_only_files_that_are_there() -> None:
    text = FOLDER.joinpath("index.html").read_text()
    named = set(re.findall(r"console/([\w.]+)\"", text))
    for name in FILES:
        if name.endswith(".js"):
            named |= set(re.findall(r"from \"\./([\w.]+)\"", FOLDER.joinpath(name).read_text()))
    assert named == set(FILES) - {"index.html"}
