"""Record a real run of ``memedit chat`` as an animated SVG: ``python docs/record.py docs/images/chat.svg``.

The lines of ``TALK`` are typed into a terminal that runs the command with an empty memory. The picture shows what it
writes, with every wait shortened to ``--pause`` seconds. Needs a POSIX system and the extra ``docs``.
"""

import argparse
import os
import pty
import select
import sys
import tempfile
import time
from collections.abc import Iterator
from html import escape
from itertools import accumulate, groupby
from pathlib import Path

import pyte

TALK = (
    "Who founded Northlight Robotics?",
    "/fix Priya Raman",
    "Northlight Robotics was founded by whom?",
    "/why",
    "Who founded the Red Cross?",
)
WIDTH, HEIGHT = 108, 20
CELL, LINE, SIZE = 8.43, 19.0, 14
COLOURS = {"default": "#d7dae0", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b", "blue": "#61afef"} | {
    "magenta": "#c678dd",
    "cyan": "#56b6c2",
    "brightblack": "#7f848e",
}
Events = list[tuple[float, bytes]]
Run = tuple[int, int, str, str, bool]  # row, column, text, colour, bold


def main() -> None:
    """Record, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pause", type=float, default=0.08, help="longest wait that is kept, in seconds")
    parser.add_argument("--reading", type=float, default=1.3, help="time to read an answer, in seconds")
    parser.add_argument("--length", type=float, default=27.0, help="longest recording without its end, in seconds")
    parser.add_argument("--end", type=float, default=3.0, help="how long the last screen stays, in seconds")
    options = parser.parse_args()
    events = shorten(record(), options.pause, options.reading, options.length)
    length = events[-1][0] + options.end
    options.out.write_text(draw(list(screens(events)), length), "utf-8")
    print(f"{options.out}: {length:.1f} s, {options.out.stat().st_size / 1000:.0f} kB")


def record() -> Events:
    """Run the chat in a terminal of its own and return what it wrote, with times in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        child, terminal = pty.fork()
        if child == 0:
            os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(WIDTH), "LINES": str(HEIGHT), "HF_HUB_OFFLINE": "1"}
            program = [sys.executable, "-m", "memedit.cli.main"]
            os.execvp(program[0], [*program, "chat", "--memory", f"{folder}/edits.db", "--max-new-tokens", "24"])
        events: Events = [(time.monotonic(), b"$ memedit chat\r\n")]
        try:
            events += _until_prompt(terminal)
            for line in TALK:
                events.append((time.monotonic(), b""))  # what was written so far is read here
                for start in range(0, len(line), 2):
                    os.write(terminal, line[start : start + 2].encode())
                    events += _read(terminal, 0.06)
                os.write(terminal, b"\n")
                events += _until_prompt(terminal)
            os.write(terminal, b"/quit\n")
        finally:
            os.waitpid(child, 0)
            os.close(terminal)
    return [(when - events[0][0], text) for when, text in events]


def _until_prompt(terminal: int, limit: float = 300.0) -> Events:
    events: Events = []
    end = time.monotonic() + limit
    while not b"".join(text for _, text in events).endswith(b"> "):
        if time.monotonic() > end:
            raise TimeoutError(f"no prompt within {limit:.0f} s after {events[-3:]}")
        events += _read(terminal, 1.0)
    return events


def _read(terminal: int, wait: float) -> Events:
    """Return what the program writes within ``wait`` seconds, at most one piece."""
    ready, _, _ = select.select([terminal], [], [], wait)
    return [(time.monotonic(), os.read(terminal, 65536))] if ready else []


def shorten(events: Events, pause: float, reading: float, length: float) -> Events:
    """Return the events with every wait cut to ``pause`` seconds, and ``reading`` seconds at each empty one.

    Where they still last longer than ``length`` seconds, as on a slow machine, all waits are cut by the same factor.
    """
    befores = [events[0][0], *(when for when, _ in events[:-1])]
    waits = [min(when - before, pause) if text else 0.0 for before, (when, text) in zip(befores, events, strict=True)]
    read = reading * sum(not text for _, text in events)
    factor = min(1.0, max(length - read, 0.0) / max(sum(waits), 1e-9))
    steps = accumulate(wait * factor if text else reading for wait, (_, text) in zip(waits, events, strict=True))
    return [(now, text) for now, (_, text) in zip(steps, events, strict=True)]


def screens(events: Events) -> Iterator[tuple[float, set[Run]]]:
    """Yield the screen behind each event as runs of characters of one look."""
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.ByteStream(screen)
    for when, text in events:
        stream.feed(text)
        yield when, {run for row in range(HEIGHT) for run in _runs(row, screen.buffer[row])}


def _runs(row: int, cells: dict[int, pyte.screens.Char]) -> Iterator[Run]:
    column = 0
    for (colour, bold), group in groupby((cells[x] for x in range(WIDTH)), key=lambda cell: (cell.fg, cell.bold)):
        text = "".join(cell.data for cell in group)
        if text.strip():
            yield row, column, text.rstrip(), colour, bold
        column += len(text)


def draw(shown: list[tuple[float, set[Run]]], length: float) -> str:
    """Return an SVG in which each run is visible from its first to its last screen, over and over."""
    width, height = WIDTH * CELL + 32, HEIGHT * LINE + 32
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-size="{SIZE}" '
        'font-family="ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace" style="white-space:pre">',
        "<title>memedit chat: a correction holds in the next answer</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#1e2127"/>',
    ]
    for run in sorted({run for _, runs in shown for run in runs}):
        row, column, text, colour, bold = run
        look = f'fill="{COLOURS.get(colour, f"#{colour}" if len(colour) == 6 else COLOURS["default"])}"'
        look += ' font-weight="bold"' if bold else ""
        place = f'x="{16 + column * CELL:.1f}" y="{28 + row * LINE:.0f}" textLength="{len(text) * CELL:.1f}"'
        parts.append(f"<text {place} {look}>{escape(text)}{_visible(run, shown, length)}</text>")
    return "\n".join([*parts, "</svg>", ""])


def _visible(run: Run, shown: list[tuple[float, set[Run]]], length: float) -> str:
    """Return the animation of a run's visibility; none for one that is always there."""
    steps = [(0.0, "hidden")]
    for when, runs in shown:
        state = "visible" if run in runs else "hidden"
        if state != steps[-1][1]:
            steps.append((when / length, state))
    if steps[1][0] == 0.0:
        del steps[0]
    if len(steps) == 1:
        return ""
    times, states = (";".join(part) for part in zip(*((f"{when:.4f}", state) for when, state in steps), strict=True))
    return (
        f'<animate attributeName="visibility" dur="{length:.1f}s" repeatCount="indefinite" calcMode="discrete" '
        f'keyTimes="{times}" values="{states}"/>'
    )


if __name__ == "__main__":
    main()
