"""The recording of a chat shows what the terminal showed, when it did."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

pytest.importorskip("pyte")
SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "record.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_waits_are_cut_and_answers_get_time_to_be_read(script: ModuleType) -> None:
    events = [(10.0, b"$"), (60.0, b"a"), (60.05, b""), (61.0, b"b")]
    assert [round(when, 2) for when, _ in script.shorten(events, 0.1, 2.0, 30.0)] == [0.0, 0.1, 2.1, 2.2]
    assert [round(when, 2) for when, _ in script.shorten(events, 0.1, 2.0, 2.1)] == [0.0, 0.05, 2.05, 2.1]


def test_every_line_is_visible_while_it_is_on_the_screen(script: ModuleType) -> None:
    events = [(0.0, b"$ memedit\r\n"), (1.0, b"load <1>"), (2.0, b"\r\x1b[K\x1b[31mready\x1b[0m")]
    picture = ElementTree.fromstring(script.draw(list(script.screens(events)), 4.0))
    shown = {}
    for text in picture.iter("{http://www.w3.org/2000/svg}text"):
        animation = text.find("{http://www.w3.org/2000/svg}animate")
        steps = None if animation is None else (animation.get("keyTimes"), animation.get("values"))
        shown[text.text] = (text.get("fill"), steps)
    assert shown["$ memedit"][1] is None
    assert shown["load <1>"][1] == ("0.0000;0.2500;0.5000", "hidden;visible;hidden")
    assert shown["ready"] == (script.COLOURS["red"], ("0.0000;0.5000", "hidden;visible"))


def test_the_shipped_recording_is_a_chat_of_half_a_minute() -> None:
    text = (SCRIPT.parent / "images" / "chat.svg").read_text("utf-8")
    ElementTree.fromstring(text)
    assert 20 <= float(re.findall(r'dur="([\d.]+)s"', text)[0]) <= 35
    assert "/fix Priya Raman" in text
