"""What operators do in the console, in a real browser: requests, feedback, keys, limits, audit, files, many edits."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api

from memedit.memory import EditMemory, Role
from memedit.server.state import ServerState
from support.browsers import launched, needs_browser
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app, serving
from support.scripted_upstream import ScriptedUpstream

pytestmark = [needs_browser, pytest.mark.slow]
expect = sync_api.expect


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def memory() -> Iterator[EditMemory]:
    with EditMemory(":memory:", encoder=HashingEncoder()) as found:
        yield found


@pytest.fixture(scope="module")
def app(memory: EditMemory) -> Any:
    return proxy_app(memory, ScriptedUpstream(words=("The ", "mayor.")), request_log=True)


@pytest.fixture(scope="module")
def url(app: Any) -> Iterator[str]:
    with serving(app) as found:
        yield found


@pytest.fixture
def space(memory: EditMemory, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own with three edits."""
    name = re.sub(r"\W", "-", request.node.name)
    memory.add("Who leads Norvik?", "Ole", subject="Norvik", metadata={"team": "town", "n": 1}, namespace=name)
    memory.add("Who leads Sudvik?", "Ida", subject="Sudvik", metadata={"team": "town", "n": 2}, namespace=name)
    memory.add("A river of Norvik is", "the Lind", subject="Norvik", namespace=name)
    return name


@pytest.fixture
def page(chromium: Any, url: str, space: str) -> Iterator[Any]:
    context = chromium.new_context(
        viewport={"width": 1360, "height": 860}, reduced_motion="reduce", accept_downloads=True
    )
    context.set_default_timeout(120_000)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{url}/console#/edits?namespace={space}")
    page.wait_for_selector(".row")
    yield page
    context.close()
    assert problems == []


def ask(page: Any, url: str, space: str, text: str) -> None:
    body = {"messages": [{"role": "user", "content": text}], "memedit": {"namespace": space}}
    assert page.request.post(f"{url}/v1/chat/completions", data=body).ok


def go(page: Any, url: str, view: str, space: str, **params: str) -> None:
    query = "&".join(f"{name}={value}" for name, value in {**params, "namespace": space}.items())
    page.goto(f"{url}/console#/{view}?{query}")


def prompts(page: Any) -> list[str]:
    found: list[str] = page.locator(".row .prompt").all_inner_texts()
    return found


def test_edits_are_sorted_and_filtered_by_metadata_and_the_address_says_so(page: Any, url: str, space: str) -> None:
    page.select_option("#order", "prompt")
    expect(page.locator(".row .prompt").first).to_have_text("A river of Norvik is")
    page.fill("#metadata-filter", "team=town, n=2")
    expect(page.locator(".row")).to_have_count(1)
    page.locator(".row").click()
    page.wait_for_selector("#history li")
    address = page.url
    assert {"order=prompt", "namespace="} <= {part.split(space)[0] for part in re.split("[?&]", address)}
    other = page.context.new_page()
    other.goto(address)
    expect(other.locator("#detail .big.target")).to_have_text("Ida")
    expect(other.locator(".row")).to_have_count(1)
    assert other.input_value("#metadata-filter") == "team=town, n=2"
    assert other.input_value("#namespace") == space
    other.close()
    page.fill("#metadata-filter", "team=nobody")
    expect(page.locator(".empty-title")).to_have_text("Nothing found")


def test_many_edits_are_marked_withdrawn_and_brought_back(page: Any, memory: EditMemory, space: str) -> None:
    page.keyboard.press("j")
    page.keyboard.press("Space")
    page.locator(".row .tick").nth(2).click()
    expect(page.locator(".marked")).to_contain_text("2 marked")
    assert page.locator(".row[aria-checked=true]").count() == 2
    page.click("#withdraw-marked")
    page.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
    expect(page.locator(".row")).to_have_count(1)
    assert memory.count(namespace=space) == 1
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".row")).to_have_count(3)
    page.locator("#edit-rows").focus()
    page.keyboard.press("a")
    expect(page.locator(".marked")).to_contain_text("3 marked")
    page.click("#clear-marks")
    expect(page.locator(".marked")).to_be_hidden()


def test_an_import_is_shown_before_it_is_done(page: Any, memory: EditMemory, space: str) -> None:
    rows = [{"prompt": "Who leads Norvik?", "target": "Eva"}, {"prompt": ""}, {"prompt": "Who sings?", "target": "Liv"}]
    page.click("#import")
    file = {"name": "new.jsonl", "mimeType": "text/plain", "buffer": "\n".join(map(json.dumps, rows)).encode()}
    page.set_input_files("#import-file", file)
    expect(page.locator("#import-preview")).to_contain_text("contradictions: 1")
    expect(page.locator("#import-preview del")).to_have_text("Ole")
    expect(page.locator("#import-preview ins")).to_have_text("Eva")
    expect(page.locator("#import-preview")).to_contain_text("Line 2")
    button = page.get_by_role("dialog").get_by_role("button", name="Import")
    expect(button).to_be_disabled()
    assert memory.count(namespace=space) == 3
    page.check("#import-skip")
    page.select_option("#import-policy", "supersede")
    expect(button).to_be_enabled()
    button.click()
    expect(page.locator(".toast.good")).to_contain_text("2 edits imported")
    assert sorted(edit.target for edit in memory.list(namespace=space)) == ["Eva", "Ida", "Liv", "the Lind"]
    page.click("#export")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len([line for line in lines if "prompt" in json.loads(line)]) == 4


def test_requests_come_in_live_and_a_complaint_is_mended(page: Any, url: str, memory: EditMemory, space: str) -> None:
    go(page, url, "requests", space)
    expect(page.locator(".empty-title")).to_have_text("No request yet")
    ask(page, url, space, "Who leads Norvik's choir?")
    expect(page.locator(".entry .prompt")).to_have_text(["Who leads Norvik's choir?"])
    ask(page, url, space, "How long is a year?")
    expect(page.locator(".entry .prompt")).to_have_text(["How long is a year?", "Who leads Norvik's choir?"])
    page.click("#live")
    ask(page, url, space, "Who leads Sudvik?")
    page.wait_for_timeout(2_500)
    assert page.locator(".entry").count() == 2
    page.click("#live")
    expect(page.locator(".entry")).to_have_count(3)
    page.select_option("#request-fired", "false")
    expect(page.locator(".entry .prompt")).to_have_text(["How long is a year?"])
    page.select_option("#request-fired", "true")
    expect(page.locator(".entry")).to_have_count(2)
    page.fill("#request-search", "choir")
    expect(page.locator(".entry .prompt")).to_have_text(["Who leads Norvik's choir?"])
    page.locator(".entry", has_text="choir").click()
    expect(page.locator(".judged .fires .target")).to_have_text("Ole")
    page.get_by_role("button", name="Should not have fired").click()
    expect(page.locator(".verdict")).to_contain_text("should not have fired")
    page.get_by_role("button", name="Take back").click()
    expect(page.locator("#open-feedback")).to_be_hidden()
    page.get_by_role("button", name="Should not have fired").click()
    page.click("#open-feedback")
    expect(page.locator(".proposal")).to_contain_text("block this text")
    assert memory.list(namespace=space)[0].blocks == ()
    page.click("#apply-proposal")
    expect(page.locator(".toast.good")).to_contain_text("in force now")
    assert memory.list(namespace=space)[0].blocks == ("Who leads Norvik's choir?",)
    expect(page.locator("#open-feedback")).to_be_hidden()
    page.fill("#request-search", "")
    page.select_option("#request-fired", "")
    page.locator(".entry", has_text="year").click()
    page.click("#other-edit")
    page.fill("#other-search", "Sudvik")
    page.locator(".choice", has_text="Sudvik").click()
    expect(page.locator("#open-feedback")).to_contain_text("1 open complaint")


def test_a_key_is_made_limited_used_and_revoked(page: Any, url: str, memory: EditMemory, space: str) -> None:
    go(page, url, "keys", space)
    page.click("#new-key")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("alert")).to_have_text("The name is empty.")
    page.fill("#k-name", "tester")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("alert")).to_have_text("Choose at least one role.")
    page.check("input[value=edit]")
    page.fill("#k-spaces", f"{space}\nother")
    page.get_by_role("button", name="Make the key").click()
    secret = page.input_value("#k-secret")
    key = memory.keys.find(secret)
    assert key is not None
    assert (key.roles, key.namespaces) == ({Role.EDIT}, {space, "other"})
    page.keyboard.press("Escape")
    card = page.locator(f".key-card[data-id='{key.id}']")
    expect(card).to_contain_text("never")
    card.get_by_role("button", name="Limits").click()
    page.fill("#l-edits", "7")
    page.fill("#l-tokens_per_minute", "900")
    page.uncheck("#l-logged")
    page.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("0 of 7 edits")
    expect(card).to_contain_text("never logged")
    assert (memory.keys.get(key.id).quota.tokens_per_minute, memory.keys.get(key.id).logged) == (900, False)
    card.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(card).to_have_count(0)
    assert memory.keys.get(key.id).revoked_at is not None
    page.check("#show-revoked")
    expect(card).to_contain_text("revoked")


def test_namespaces_are_limited_and_the_audit_tells(page: Any, url: str, memory: EditMemory, space: str) -> None:
    go(page, url, "namespaces", space)
    card = page.locator(f"#namespaces [data-name='{space}']")
    expect(card.locator(".figure")).to_contain_text("3")
    card.get_by_role("button", name="Limits").click()
    page.fill("#l-edits", "3")
    page.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("3 of 3 edits")
    go(page, url, "edits", space)
    page.keyboard.press("n")
    page.fill("#f-prompt", "Who sings?")
    page.fill("#f-target", "Liv")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("3 of at most 3 edits")
    page.keyboard.press("Escape")
    go(page, url, "metrics", space)
    expect(page.locator("#quotas tr", has_text=space).locator("td")).to_have_text(["edits", "3", "3"])
    go(page, url, "audit", space)
    expect(page.locator(".audit > li").first).to_contain_text("set the quota")
    edit = memory.list(namespace=space)[0]
    memory.update(edit.id, target="Eva", namespace=space)
    page.keyboard.press("u")
    page.locator(".audit summary").first.click()
    expect(page.locator(".audit del").first).to_have_text("Ole")
    page.fill("#audit-actor", "nobody/1")
    expect(page.locator(".empty-title")).to_have_text("No change yet")
    page.fill("#audit-actor", "")
    page.locator(".audit a.prompt").first.click()
    expect(page.locator("#detail .big.target")).to_have_text("Eva")


def test_figures_outlive_a_reload(page: Any, url: str, app: Any, space: str) -> None:
    from datetime import UTC, datetime, timedelta

    state: ServerState = app.state.memedit
    ask(page, url, space, "Who leads Norvik?")
    state.figures.minute(datetime.now(UTC) - timedelta(minutes=1))
    for _ in range(2):
        go(page, url, "metrics", space)
        page.reload()
        expect(page.locator("#d-requests .figure")).not_to_have_text(re.compile("^0"))
        assert page.locator(".day .spark path").count() >= 12
