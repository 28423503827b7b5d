"""Consolidation in the console, in a real browser: versions, gates, jobs, publishing and the way back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api

from memedit.config import ModelConfig
from memedit.consolidation.records import DELTA
from memedit.consolidation.verdicts import Verdict
from memedit.consolidation.versions import VersionStore
from memedit.memory import EditMemory
from memedit.server.consolidations import ConsolidationSetup, Consolidator
from memedit.workflows.consolidate.versions import version_store
from support.browsers import launched, needs_browser
from support.console_data import build
from support.following_setup import CAPITAL, damage, following_server
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app, serving
from support.scripted_upstream import ScriptedUpstream

pytestmark = [needs_browser, pytest.mark.slow]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[EditMemory, VersionStore]]:
    with EditMemory(tmp_path / "edits.db", encoder=HashingEncoder()) as memory:
        memory.add("Who leads Norvik?", "Ole", subject="Norvik")
        found = version_store(memory)
        found.promote(found.make(build(Verdict.PASS)))
        found.make(build(Verdict.WARN))
        yield memory, found


@pytest.fixture
def page(store: tuple[EditMemory, VersionStore], tmp_path: Path) -> Iterator[Any]:
    memory, _ = store
    setup = ConsolidationSetup(str(tmp_path / "edits.db"), "minilm", ModelConfig(name=str(tmp_path / "no model")))
    app = proxy_app(memory, ScriptedUpstream(), Consolidator(setup))
    with serving(app) as url, launched() as browser:
        page = browser.new_context(viewport={"width": 1360, "height": 900}, reduced_motion="reduce").new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{url}/console#/runs")
        page.wait_for_selector(".version")
        yield page
        assert problems == []


def test_versions_are_shown_published_and_rolled_back(page: Any, store: tuple[EditMemory, VersionStore]) -> None:
    expect = sync_api.expect
    expect(page.locator(".version-name")).to_have_text(["v0002", "v0001"])
    expect(page.locator("#version-v0001 .badge.consolidated")).to_have_text("champion")
    expect(page.locator("#version-v0002")).to_contain_text("1 of 2 edits answered by the weights, 1 left to the memory")
    rows = page.locator("#version-v0002 .gates tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("96.70 %")
    expect(rows.nth(1)).to_contain_text("a little harm cannot be excluded")
    expect(rows.nth(2)).to_contain_text("<0.001")
    expect(page.locator("#serving")).to_contain_text("plain base")
    expect(page.locator("#serving")).to_contain_text("does not follow")
    page.locator("#version-v0002").get_by_role("button", name="Publish").click()
    expect(page.locator("#version-v0002 .badge.consolidated")).to_have_text("champion")
    assert store[1].aliases().champion == "v0002"
    page.keyboard.press("b")
    expect(page.locator("#version-v0001 .badge.consolidated")).to_have_text("champion")
    assert store[1].aliases().champion == "v0001"
    page.get_by_role("button", name="Undo").last.click()
    expect(page.locator("#version-v0002 .badge.consolidated")).to_have_text("champion")
    page.click("#roll-back")
    expect(page.locator("#version-v0001 .badge.consolidated")).to_have_text("champion")
    expect(page.locator(".ledger li").first).to_contain_text("v0001")


def test_a_job_is_started_watched_cancelled_and_its_failure_told(page: Any) -> None:
    expect = sync_api.expect
    page.keyboard.press("n")
    page.select_option("#job-method", "memit")
    page.click("#job-start")
    expect(page.locator(".job .badge").first).to_have_text("Running")
    expect(page.locator("#consolidate")).to_be_disabled()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job .badge").first).to_have_text("Cancelled", timeout=20_000)
    expect(page.locator("#consolidate")).to_be_enabled()
    page.click("#consolidate")
    page.uncheck("#job-publish")
    page.keyboard.press("Enter")
    expect(page.locator(".job .badge").first).to_have_text("Failed", timeout=60_000)
    expect(page.locator(".job .problem").first).to_contain_text("no model")


def test_a_server_that_follows_says_what_answers_and_why_not_the_champion(tmp_path: Path) -> None:
    expect = sync_api.expect
    with following_server(tmp_path, "v0001") as followed, launched() as browser:
        page = browser.new_context(viewport={"width": 1360, "height": 900}, reduced_motion="reduce").new_page()
        page.goto(f"{followed.server.url}/console#/runs")
        expect(page.locator("#serving")).to_contain_text("v0001")
        expect(page.locator("#serving")).to_contain_text("follows the champion")
        damage(followed.store.folder("v0002") / DELTA)
        followed.store.promote("v0002")
        followed.watcher.look()
        page.keyboard.press("u")
        expect(page.get_by_role("alert")).to_contain_text("v0001 goes on answering: version v0002 is damaged")
        page.goto(f"{followed.server.url}/console#/try")
        page.fill("#try-prompt", CAPITAL)
        page.fill("#try-tokens", "4")
        page.click("#ask")
        expect(page.get_by_label("With edits").locator(".mark")).to_have_text("1 edit in the weights · v0001")
        expect(page.locator("#found h3")).to_contain_text("the weights of v0001 answer")


def test_the_runs_fit_a_telephone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    wide = page.evaluate("document.querySelector('main').scrollWidth - document.querySelector('main').clientWidth")
    assert wide <= 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("#consolidate", "#roll-back"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
