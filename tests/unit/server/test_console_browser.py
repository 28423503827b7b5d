"""Every action of the console, in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api

from memedit.memory import EditMemory, Role
from support.browsers import launched, needs_browser
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app, serving
from support.scripted_upstream import ScriptedUpstream

pytestmark = [needs_browser, pytest.mark.slow]
NASTY = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def memory() -> Iterator[EditMemory]:
    with EditMemory(":memory:", encoder=HashingEncoder()) as found:
        yield found


@pytest.fixture(scope="module")
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(words=("The ", "mayor ", "is ", "Ada."))


@pytest.fixture(scope="module")
def url(memory: EditMemory, upstream: ScriptedUpstream) -> Iterator[str]:
    with serving(proxy_app(memory, upstream)) as found:
        yield found


@pytest.fixture
def space(memory: EditMemory, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own with three edits."""
    name = re.sub(r"\W", "-", request.node.name)
    memory.add("Who leads Norvik?", "Ole", subject="Norvik", paraphrases=("Tell me who leads Norvik",), namespace=name)
    memory.add("Who leads Sudvik?", "Ida", subject="Sudvik", paraphrases=("Tell me who leads Sudvik",), namespace=name)
    memory.add("The river of Norvik is", "the Lind", subject="Norvik", namespace=name)
    return name


@pytest.fixture
def page(chromium: Any, url: str, space: str) -> Iterator[Any]:
    """The console in that namespace; the test fails when the page reports an error or a breach of its policy."""
    context = chromium.new_context(viewport={"width": 1360, "height": 860}, reduced_motion="reduce")
    context.set_default_timeout(120_000)
    context.add_init_script(
        f"sessionStorage.getItem('memedit.namespace') || sessionStorage.setItem('memedit.namespace', '{space}')"
    )
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.goto(f"{url}/console")
    page.wait_for_selector(".row")
    yield page
    context.close()
    # a refusal that the test provokes (409, 503 ...) is reported by the browser too
    assert [text for text in problems if "status of" not in text] == []


def _prompts(page: Any) -> list[str]:
    return page.locator(".row .prompt").all_inner_texts()


def _fill_new(page: Any, prompt: str, target: str) -> None:
    page.keyboard.press("n")
    page.fill("#f-prompt", prompt)
    page.fill("#f-target", target)


def test_edits_are_listed_searched_and_filtered(page: Any, memory: EditMemory, space: str) -> None:
    assert _prompts(page) == ["Who leads Norvik?", "Who leads Sudvik?", "The river of Norvik is"]
    page.keyboard.press("/")
    page.keyboard.type("norvik leads")
    sync_api.expect(page.locator(".row")).to_have_count(1)
    page.keyboard.press("Escape")
    sync_api.expect(page.locator(".row")).to_have_count(3)
    page.fill("#search", "who leads Sudvik")
    page.get_by_role("button", name="Meaning").click()
    sync_api.expect(page.locator(".row .prompt").first).to_have_text("Who leads Sudvik?")
    assert float(page.locator(".row .num").first.inner_text()) > 0.9
    page.fill("#search", "")
    memory.delete(memory.list(namespace=space)[0].id, namespace=space)
    page.select_option("#state-filter", "retired")
    sync_api.expect(page.locator(".row")).to_have_count(1)
    page.select_option("#state-filter", "all")
    sync_api.expect(page.locator(".row")).to_have_count(3)
    page.get_by_role("button", name="Words").click()
    page.fill("#search", "no such words at all")
    sync_api.expect(page.locator(".empty-title")).to_have_text("Nothing found")


def test_long_lists_come_in_pages(page: Any, memory: EditMemory, space: str) -> None:
    memory.add_many([{"prompt": f"Who leads town{i}?", "target": "x"} for i in range(60)], namespace=space)
    page.reload()
    sync_api.expect(page.locator(".row")).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    sync_api.expect(page.locator(".row")).to_have_count(63)
    sync_api.expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_the_keyboard_is_enough(page: Any) -> None:
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.locator(".row[aria-selected=true] .prompt").inner_text() == "Who leads Sudvik?"
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("#history li")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    sync_api.expect(page.locator("#detail .big.target")).to_have_text("Ida")
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("#detail")).to_be_hidden()
    page.keyboard.press("?")
    sync_api.expect(page.get_by_role("dialog")).to_contain_text("Withdraw it")
    page.keyboard.press("Escape")
    for key, title in {"t": "Try it", "s": "Scope", "c": "Consolidation", "m": "Metrics", "e": "Edits"}.items():
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("g")
        page.keyboard.press(key)
        sync_api.expect(page.locator("#title")).to_have_text(title)
        assert page.locator("#nav [aria-current=page]").count() == 1


def test_an_edit_is_added_and_wrong_fields_are_named(page: Any, memory: EditMemory, space: str) -> None:
    page.get_by_role("button", name="Add edit").click()
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.get_by_role("alert")).to_have_text("The prompt is empty.")
    page.fill("#f-prompt", "Who guards Norvik?")
    page.fill("#f-target", "Per")
    page.locator("summary", has_text="More").click()
    page.fill("#f-paraphrases", "Norviks guard is\n\n the guard of Norvik ")
    page.fill("#f-source", "minutes")
    page.fill("#f-metadata", "[1]")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.get_by_role("alert")).to_have_text("The metadata is no JSON object.")
    page.fill("#f-metadata", '{"ticket": 17}')
    page.fill("#f-invalid_at", "2020-01-01T00:00")
    page.fill("#f-valid_at", "2021-01-01T00:00")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.get_by_role("alert")).to_contain_text("valid")
    page.fill("#f-invalid_at", "2031-01-01T00:00")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.get_by_role("dialog")).to_have_count(0)
    sync_api.expect(page.locator("#detail .big.target")).to_have_text("Per")
    edit = memory.list(namespace=space)[-1]
    assert (edit.prompt, edit.paraphrases) == ("Who guards Norvik?", ("Norviks guard is", "the guard of Norvik"))
    assert (edit.source, dict(edit.metadata)) == ("minutes", {"ticket": 17})
    assert edit.invalid_at is not None


@pytest.mark.parametrize(("choice", "left"), [("replace", ["Eva"]), ("keep", ["Ole", "Eva"]), ("cancel", ["Ole"])])
def test_a_contradiction_asks_which_should_stay(
    page: Any, memory: EditMemory, space: str, choice: str, left: list[str]
) -> None:
    _fill_new(page, "Who leads Norvik?", "Eva")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.locator(".conflicting .target")).to_have_text("Ole")
    if choice == "cancel":
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
    else:
        page.click(f"#conflict-{choice}")
    sync_api.expect(page.get_by_role("dialog")).to_have_count(0)
    assert [e.target for e in memory.list(namespace=space) if e.prompt == "Who leads Norvik?"] == left


def test_possible_conflicts_are_counted_shown_and_settled(page: Any, memory: EditMemory, space: str) -> None:
    sync_api.expect(page.locator("#possible-conflicts")).to_be_hidden()
    _fill_new(page, "Who runs Norvik?", "Eva")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.locator("#possible-conflicts")).to_contain_text("1 possible conflict")
    page.click("#possible-conflicts")
    sync_api.expect(page.locator(".pair .prompt")).to_have_text(["Who leads Norvik?", "Who runs Norvik?"])
    page.get_by_role("button", name="Two facts").click()
    sync_api.expect(page.locator("#conflict-pairs")).to_contain_text("Every pair is settled")
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("#possible-conflicts")).to_be_hidden()
    apart = {edit.target: edit.blocks for edit in memory.list(namespace=space)}
    assert (apart["Ole"], apart["Eva"]) == (("Who runs Norvik?",), ("Who leads Norvik?",))
    page.click(".row >> nth=0")
    sync_api.expect(page.locator("#detail")).to_contain_text("Silent on")
    page.keyboard.press("e")
    page.fill("#f-blocks", "Who left Norvik?")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.locator("#detail")).to_contain_text("Who left Norvik?")


def test_an_edit_is_changed_and_its_history_tells(page: Any, memory: EditMemory, space: str) -> None:
    page.click(".row >> nth=0")
    page.wait_for_selector("#history li")
    page.keyboard.press("e")
    page.fill("#f-target", "Ada")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.locator("#history li")).to_have_count(2)
    sync_api.expect(page.locator("#history li").first).to_contain_text("Changed")
    sync_api.expect(page.locator(".row .target").first).to_have_text("Ada")
    edit = memory.list(namespace=space)[0]
    assert (edit.target, edit.version, edit.subject, edit.paraphrases) == (
        "Ada",
        2,
        "Norvik",
        ("Tell me who leads Norvik",),
    )
    page.keyboard.press("e")
    memory.update(edit.id, target="Somebody", namespace=space)
    page.fill("#f-target", "Else")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.get_by_role("alert")).to_contain_text("changed this edit meanwhile")
    page.keyboard.press("Escape")
    assert memory.get(edit.id, namespace=space).target == "Somebody"


def test_an_edit_is_withdrawn_brought_back_and_restored(page: Any, memory: EditMemory, space: str) -> None:
    page.keyboard.press("j")
    page.keyboard.press("x")
    sync_api.expect(page.locator(".row")).to_have_count(2)
    page.get_by_role("button", name="Undo").click()
    sync_api.expect(page.locator(".row")).to_have_count(3)
    page.click(".row >> nth=1")
    page.click("#withdraw")
    sync_api.expect(page.locator(".row")).to_have_count(2)
    page.select_option("#state-filter", "retired")
    sync_api.expect(page.locator(".row")).to_have_count(1)
    sync_api.expect(page.locator(".row .badge")).to_have_text("Withdrawn")
    page.click(".row >> nth=0")
    page.click("#restore")
    sync_api.expect(page.locator(".empty-title")).to_have_text("Nothing found")
    assert memory.count(namespace=space) == 3


def test_restoring_what_was_replaced_asks_too(page: Any, memory: EditMemory, space: str) -> None:
    old = memory.list(namespace=space)[0]
    new = memory.supersede(old.id, target="Eva", namespace=space)
    page.select_option("#state-filter", "retired")
    page.click(".row >> nth=0")
    page.keyboard.press("r")
    page.click("#conflict-replace")
    sync_api.expect(page.locator(".toast.good")).to_contain_text("Restored")
    assert memory.get(new.id, namespace=space).state == "retired"


def test_both_answers_stream_side_by_side(page: Any, upstream: ScriptedUpstream) -> None:
    page.keyboard.press("j")
    page.keyboard.press("t")
    assert page.input_value("#try-prompt") == "Who leads Norvik?"
    page.fill("#try-tokens", "9")
    upstream.bodies.clear()
    page.click("#ask")
    for answer in ("#base-answer", "#edited-answer"):
        sync_api.expect(page.locator(answer)).to_have_text("The mayor is Ada.")
    sync_api.expect(page.locator("#found h3")).to_contain_text("1 edit fires")
    sync_api.expect(page.locator("#found h3")).to_contain_text("threshold 0.250")
    assert page.locator(".hit.fires .num").inner_text() == "1.000"
    assert page.locator(".hit.fires .meter").get_attribute("aria-label") == "Score 1.000, threshold 0.250"
    assert page.locator(".hit:not(.fires)").count() >= 1
    page.locator(".hit.fires summary").click()
    sync_api.expect(page.locator(".hit.fires .reasons")).to_contain_text("similarity")
    sync_api.expect(page.locator(".pane .pace").first).to_contain_text("First token after")
    assert sorted("Facts:" in str(body) for body in upstream.bodies) == [False, True]
    assert {body["max_tokens"] for body in upstream.bodies} == {9}


def test_looking_up_asks_no_model_and_a_long_answer_can_be_stopped(page: Any, upstream: ScriptedUpstream) -> None:
    page.goto(page.url.split("#")[0] + "#/try")
    page.fill("#try-prompt", "How long is a year?")
    asked = len(upstream.bodies)
    page.click("#look-up")
    sync_api.expect(page.locator("#found h3")).to_contain_text("No edit fires")
    assert len(upstream.bodies) == asked
    upstream.pause = 30.0
    try:
        page.keyboard.press("Control+Enter")
        page.locator("#try-prompt").press("Control+Enter")
        sync_api.expect(page.locator("#ask")).to_contain_text("Stop")
        page.keyboard.press("Escape")
        sync_api.expect(page.locator("#ask")).to_contain_text("Ask")
        sync_api.expect(page.locator(".pane .pace").first).to_have_text("Stopped")
    finally:
        upstream.pause = 0.0


def test_an_engines_failure_is_shown(page: Any, upstream: ScriptedUpstream) -> None:
    page.goto(page.url.split("#")[0] + "#/try")
    upstream.refusal = (503, "busy", {})
    try:
        page.fill("#try-prompt", "How long is a year?")
        page.click("#ask")
        sync_api.expect(page.locator(".pane .problem").first).to_contain_text("busy")
    finally:
        upstream.refusal = None


def test_the_trade_off_is_drawn_with_the_threshold(page: Any, memory: EditMemory, space: str) -> None:
    page.goto(page.url.split("#")[0] + "#/scope")
    sync_api.expect(page.locator(".mark-text")).to_have_text("threshold 0.250")
    assert page.locator("path.line").count() == 2
    sync_api.expect(page.locator(".reading")).to_contain_text("100.0% of paraphrases fire")
    page.locator("input.reader").fill("1")
    sync_api.expect(page.locator(".reading")).to_contain_text("At 1.000")
    page.locator(".plot").hover()
    sync_api.expect(page.locator(".reading")).not_to_contain_text("At 1.000")
    assert page.locator(".figures tbody tr").count() == 5
    for edit in memory.list(namespace=space):
        memory.delete(edit.id, namespace=space)
    page.keyboard.press("u")
    sync_api.expect(page.locator(".empty-title")).to_have_text("Nothing to measure yet")


def test_metrics_are_live(page: Any, url: str, space: str) -> None:
    page.goto(f"{url}/console#/metrics")
    row = page.locator(".figures tr", has_text=space)
    sync_api.expect(row.locator("td").first).to_have_text("3")
    before = page.locator("#m-prompts .figure").inner_text()
    page.request.post(
        f"{url}/v1/chat/completions",
        data={"messages": [{"role": "user", "content": "Who leads Norvik?"}], "memedit": {"namespace": space}},
    )
    page.keyboard.press("u")
    sync_api.expect(page.locator("#m-prompts .figure")).not_to_have_text(before)
    sync_api.expect(row.locator("td").last).to_have_text("1")


def test_hostile_text_is_only_text(page: Any, memory: EditMemory, space: str) -> None:
    memory.add(
        NASTY, NASTY, subject="img", paraphrases=(NASTY + "!",), source=NASTY, metadata={NASTY: NASTY}, namespace=space
    )
    page.reload()
    page.click(".row >> nth=3")
    page.wait_for_selector("#history li")
    assert page.locator("#detail .big.prompt").inner_text() == NASTY
    page.keyboard.press("t")
    page.click("#ask")
    sync_api.expect(page.locator("#found h3")).to_contain_text("1 edit fires")
    assert page.title() == "Try it · memedit"
    assert page.locator("img[src=x]").count() == 0


def test_namespaces_are_chosen_and_named(page: Any, url: str, memory: EditMemory, space: str) -> None:
    memory.add("Who leads Ostvik?", "Jon", namespace="elsewhere")
    page.reload()
    page.select_option("#namespace", "elsewhere")
    sync_api.expect(page.locator(".row .prompt")).to_have_text(["Who leads Ostvik?"])
    page.select_option("#namespace", label="Other…")
    page.fill("#new-namespace", "brand new")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator(".empty-title")).to_have_text("No edits yet")
    assert page.input_value("#namespace") == "brand new"
    page.get_by_role("button", name="Add the first edit").click()
    page.fill("#f-prompt", "Who leads Vestvik?")
    page.fill("#f-target", "Liv")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.locator(".row")).to_have_count(1)
    assert memory.count(namespace="brand new") == 1


def test_the_theme_is_chosen_and_kept(page: Any) -> None:
    colours = set()
    for _ in range(2):
        page.click("#theme-button")
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator("#theme-button").inner_text() == "Theme: dark"


def test_a_key_is_asked_for_kept_in_the_tab_and_forgotten(chromium: Any, tmp_path: Path) -> None:
    with EditMemory(tmp_path / "e.db", encoder=HashingEncoder()) as memory:
        made = memory.keys.create("reader", roles=[Role.READ])
        secret = made[1] if isinstance(made, tuple) else made.secret
        memory.add("Who leads Norvik?", "Ole")
        context = chromium.new_context()
        with serving(proxy_app(memory, ScriptedUpstream(), auth=True)) as at:
            page = context.new_page()
            page.goto(f"{at}/console")
            page.fill("#api-key", "mek_wrong")
            page.keyboard.press("Enter")
            sync_api.expect(page.get_by_role("dialog")).to_contain_text("unknown, expired or revoked")
            page.fill("#api-key", secret)
            page.keyboard.press("Enter")
            sync_api.expect(page.locator(".row")).to_have_count(1)
            assert page.evaluate("JSON.stringify(localStorage)").find(secret) == -1
            page.reload()
            sync_api.expect(page.locator(".row")).to_have_count(1)
            page.keyboard.press("j")
            page.keyboard.press("x")
            sync_api.expect(page.locator(".toast.error")).to_contain_text("role 'edit'")
            page.click("#key-button")
            page.click("#forget-key")
            sync_api.expect(page.locator(".empty-title")).to_have_text("This server asks for an API key")
        context.close()


def _within(found: Any, width: int) -> bool:
    """Whether an element is whole on a screen of that width."""
    box = found.bounding_box()
    return bool(box["x"] >= 0 and box["x"] + box["width"] <= width + 1)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_is_wider_than_the_screen(
    chromium: Any, url: str, memory: EditMemory, space: str, width: int, theme: str
) -> None:
    long = "Donaudampfschifffahrtsgesellschaftskapitaen" * 6
    memory.add(long, long, subject=long, source=long, metadata={long: long}, namespace=space)
    context = chromium.new_context(
        viewport={"width": width, "height": 844}, color_scheme=theme, reduced_motion="reduce"
    )
    context.set_default_timeout(120_000)
    context.add_init_script(f"sessionStorage.setItem('memedit.namespace', '{space}')")
    page = context.new_page()
    for view, ready in (("edits", ".row"), ("try", "#ask"), ("scope", "main .card"), ("runs", "main .card"),
                        ("metrics", ".stat")):  # fmt: skip
        page.goto(f"{url}/console#/{view}")
        page.wait_for_selector(ready)
        if view == "edits":
            page.locator(".row").last.click()
            page.wait_for_selector("#history")
        if view == "try":
            page.fill("#try-prompt", long)
            page.click("#look-up")
            page.wait_for_selector(".hit")
        wide = page.evaluate(
            "[document.documentElement, document.body, document.querySelector('main')]"
            ".map((node) => node.scrollWidth - node.clientWidth)"
        )
        assert max(wide) <= 1, (view, wide)
        for button in page.locator("main button:visible").all():
            assert _within(button, width), (view, button.inner_text())
    page.goto(f"{url}/console#/edits")
    page.wait_for_selector(".row")
    page.click("#add")
    page.wait_for_selector("dialog")
    assert _within(page.locator("dialog"), width)
    context.close()


def test_marks_that_turn_text_are_shown(page: Any, memory: EditMemory, space: str) -> None:
    memory.add("Who owns \u202egpj.exe\u2066?", "a\u200bb\u200fc", subject=None, namespace=space)
    page.reload()
    sync_api.expect(page.locator(".row .prompt").last).to_have_text("Who owns ⟦U+202E⟧gpj.exe⟦U+2066⟧?")
    sync_api.expect(page.locator(".row .target").last).to_have_text("a⟦U+200B⟧b⟦U+200F⟧c")
    page.locator(".row").last.click()
    sync_api.expect(page.locator("#detail .big.target")).to_have_text("a⟦U+200B⟧b⟦U+200F⟧c")
    page.click("#change")
    assert page.input_value("#f-target") == "a\u200bb\u200fc", "what is changed is the text itself"


def test_the_number_of_edits_is_the_whole_number(page: Any, memory: EditMemory, space: str) -> None:
    memory.add_many([{"prompt": f"The size of thing {i} is", "target": "x"} for i in range(154)], namespace=space)
    page.reload()
    sync_api.expect(page.locator(".count")).to_have_text("157 edits")
    page.click(".more")
    sync_api.expect(page.locator(".row")).to_have_count(100)
    sync_api.expect(page.locator(".count")).to_have_text("157 edits")
    page.fill("#search", "thing")
    sync_api.expect(page.locator(".count")).to_have_text("the best 50 edits")
