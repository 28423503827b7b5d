"""Every page of the console on a telephone and on a desk, light and dark: whole on the screen, and usable by all.

MEMEDIT_SCREENSHOTS names a folder that pictures of all pages are put into.
"""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from memedit.config import ModelConfig
from memedit.memory import EditMemory
from memedit.server.consolidations import ConsolidationSetup, Consolidator
from support.browsers import launched, needs_browser
from support.console_data import LONG, fill
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app, serving
from support.scripted_upstream import ScriptedUpstream

pytestmark = [needs_browser, pytest.mark.slow]
PICTURES = os.environ.get("MEMEDIT_SCREENSHOTS")
ROWS = (
    {"prompt": "Who is the mayor of Norvik?", "target": "Somebody"},
    {"prompt": ""},
    {"prompt": "New", "target": "x"},
)
_WIDE = """[document.documentElement, document.body, document.querySelector('main')]
    .map((node) => node.scrollWidth - node.clientWidth)"""
_CUT_OFF = """() => [...document.querySelectorAll('main button, dialog button')]
    .map((node) => [node.innerText, node.getBoundingClientRect()])
    .filter(([, box]) => box.width && (box.x < 0 || box.right > innerWidth + 1))
    .map(([text]) => text)"""
_AXE = """(rules) => axe.run(document, {resultTypes: ['violations'], preload: false, ...(rules && {runOnly: rules})})
    .then((found) => found.violations
    .filter((one) => ['serious', 'critical'].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(' | ')}`))"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The accessibility checker; it is run by the debugger, since the pages let no other script in."""
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("console")
    with EditMemory(folder / "edits.db", encoder=HashingEncoder()) as memory:
        fill(memory)
        setup = ConsolidationSetup(str(folder / "edits.db"), "minilm", ModelConfig(name=str(folder / "no model")))
        upstream = ScriptedUpstream(words=("The ", "mayor ", "is ", "Ada."))
        with serving(proxy_app(memory, upstream, Consolidator(setup), request_log=True)) as found:
            yield found


def _detail(page: Any) -> None:
    page.locator(".row").last.click()
    page.wait_for_selector("#history li")


def _marked(page: Any) -> None:
    page.locator(".row .tick").nth(1).click()
    page.wait_for_selector("#withdraw-marked")


def _looked_up(page: Any) -> None:
    page.fill("#try-prompt", "Who is the mayor of Norvik?")
    page.click("#look-up")
    page.wait_for_selector(".hit")


def _rehearsed(page: Any) -> None:
    if page.locator(".only-small:visible").count():
        page.locator(".only-small:visible").click()
    page.click("#import")
    page.set_input_files(
        "#import-file",
        {"name": "new.jsonl", "mimeType": "text/plain", "buffer": "\n".join(map(json.dumps, ROWS)).encode()},
    )
    page.wait_for_selector("#import-preview .counts")


def _request(page: Any) -> None:
    page.locator(".entry").last.click()
    page.wait_for_selector(".judged li")


def _long_request(page: Any) -> None:
    page.locator(".entry").first.click()
    page.wait_for_selector(".judged li")


def _proposal(page: Any) -> None:
    page.click("#open-feedback")
    page.wait_for_selector(".replacements li")


def _other_edit(page: Any) -> None:
    _request(page)
    page.click("#other-edit")
    page.wait_for_selector(".choice")


def _differences(page: Any) -> None:
    page.locator(".audit details summary").first.click()


def _new_key(page: Any) -> None:
    page.click("#new-key")
    page.wait_for_selector("#k-name")
    page.get_by_text("Limits, end, log").click()


def _key_shown(page: Any) -> None:
    page.click("#new-key")
    page.fill("#k-name", "tester")
    page.get_by_label("read", exact=False).first.check()
    page.get_by_role("button", name="Make the key").click()
    page.wait_for_selector("#k-secret")


def _limits(page: Any) -> None:
    page.get_by_role("button", name="Limits").first.click()
    page.wait_for_selector("#l-edits")


def _pressed(key: str, then: str) -> Callable[[Any], None]:
    def press(page: Any) -> None:
        page.keyboard.press(key)
        page.wait_for_selector(then)

    return press


PAGES: dict[str, tuple[str, str, Callable[[Any], None] | None]] = {
    "edits": ("edits", ".row", None),
    "edits-detail": ("edits", ".row", _detail),
    "edits-marked": ("edits", ".row", _marked),
    "edits-form": ("edits", ".row", _pressed("n", "#f-prompt")),
    "edits-import": ("edits", ".row", _rehearsed),
    "edits-export": ("edits", ".row", _pressed("o", "#export-format")),
    "edits-conflicts": ("edits", ".row", _pressed("c", ".pair")),
    "edits-none": ("edits?metadata=team%3Dnobody", ".empty", None),
    "shortcuts": ("edits", ".row", _pressed("?", ".help")),
    "try": ("try", "#ask", _looked_up),
    "requests": ("requests", ".entry", None),
    "requests-detail": ("requests", ".entry", _request),
    "requests-long": ("requests", ".entry", _long_request),
    "requests-other": ("requests", ".entry", _other_edit),
    "requests-proposal": ("requests", "#open-feedback:visible", _proposal),
    "scope": ("scope", ".plot", None),
    "runs": ("runs", ".version", None),
    "metrics": ("metrics", ".day .spark", None),
    "namespaces": ("namespaces", ".cards .card", None),
    "namespaces-limits": ("namespaces", ".cards .card", _limits),
    "audit": ("audit", ".audit strong", _differences),
    "audit-all": ("audit?all=1", ".audit strong", None),
    "keys": ("keys", ".key-card", None),
    "keys-new": ("keys", ".key-card", _new_key),
    "keys-shown": ("keys", ".key-card", _key_shown),
}


def _note(wrong: list[str], name: str, error: Any) -> None:
    wrong.append(f"{name}: {error}")


def _looked_at(page: Any, name: str, theme: str, rules: list[str] | None) -> list[str]:
    """What is wrong with a page in a theme; ``rules`` of the checker, None for all."""
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}-{page.viewport_size['width']}-{theme}.png")
    wide = page.evaluate(_WIDE)
    return [
        *([f"{name}: wider than the screen by {wide}"] if max(wide) > 1 else []),
        *(f"{name}: the button {button!r} is cut off" for button in page.evaluate(_CUT_OFF)),
        *(f"{name}, {theme}: {barrier}" for barrier in page.evaluate(_AXE, rules)),
    ]


@pytest.mark.parametrize("width", [390, 1280])
def test_every_page_fits_the_screen_and_has_no_serious_barrier(chromium: Any, url: str, axe: str, width: int) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 844}, reduced_motion="reduce")
    context.set_default_timeout(120_000)
    wrong: list[str] = []
    for name, (view, ready, act) in PAGES.items():
        page = context.new_page()
        page.on("pageerror", partial(_note, wrong, name))
        page.goto(f"{url}/console#/{view}", wait_until="commit")
        page.wait_for_selector(ready)
        if act is not None:
            act(page)
        page.evaluate(axe)
        wrong += _looked_at(page, name, "light", None)
        wrong += _looked_at(page, name, "dark", ["color-contrast"])  # a theme changes nothing but colours
        page.close()
    context.close()
    assert not wrong, "\n".join(wrong)


def test_all_pages_are_looked_at(chromium: Any, url: str) -> None:
    page = chromium.new_page()
    page.goto(f"{url}/console")
    page.wait_for_selector(".row")
    there = {one.get_attribute("data-view") for one in page.locator("#nav a").all()}
    page.close()
    assert there == {view.partition("?")[0] for view, _, _ in PAGES.values()}
    assert len(LONG) > 200, "a word that no line holds"
