"""Where a command's results go: one JSON document or readable text on stdout, everything else on stderr."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from memedit.cli.text import plain, visible

ProgressCallback = Callable[[int, int], None]

# Shorter work shows no bar: it would only flicker.
_SHOW_AFTER_SECONDS = 0.5
_PIPE_WIDTH = 400
_LOG_EVERY_SECONDS = 60.0


class Output:
    """Prints results. With ``json_mode`` stdout carries exactly one JSON document.

    Args:
        json_mode: print documents, not text.
    """

    def __init__(self, *, json_mode: bool = False) -> None:
        self.json_mode = json_mode
        self._held = ""
        self.console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.errors = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def emit(self, document: Any, human: Callable[["Output"], None]) -> None:
        """Print ``document`` as JSON, or call ``human`` to print the same for people."""
        if self.json_mode:
            # ASCII only, so that lone surrogates in stored text survive any terminal or pipe.
            self.console.out(json.dumps(plain(document), indent=2, allow_nan=False), highlight=False)
        else:
            human(self)

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line of text to stdout; it may hold stored text."""
        self.console.print(Text(visible(text), style=style))

    def verbatim(self, text: str) -> None:
        """Print text to stdout with its layout, tabs and all, and end the line; it may hold stored text."""
        self.piece(text if text.endswith("\n") else f"{text}\n")

    def piece(self, text: str) -> None:
        """Print a part of such a text, at once; a carriage return waits for the line feed that may follow it."""
        text, self._held = self._held + text, ""
        if text.endswith("\r"):
            text, self._held = text[:-1], "\r"
        self.console.file.write(visible(text))  # rich would expand tabs
        self.console.file.flush()

    def lines(self, texts: Iterable[str]) -> None:
        """Print several lines."""
        for text in texts:
            self.line(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
        """Print a table; cells may hold stored text."""
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in columns:
            # an id must stay in one piece to be copied
            table.add_column(column, overflow="fold", no_wrap=column == "id")
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        # a pipe has no width to fit in
        console = self.console if self.console.is_terminal else Console(width=_PIPE_WIDTH, highlight=False)
        console.print(table)

    def note(self, text: str, style: str = "dim") -> None:
        """Print one line to stderr."""
        self.errors.print(Text(visible(text), style=style))

    @contextmanager
    def progress(self, description: str) -> Iterator[ProgressCallback]:
        """Yield a ``(done, total)`` callback: a bar with the time left on stderr, in a log a line a minute."""
        if not self.errors.is_terminal:
            yield partial(LogLine(self.errors).progress, description)
            return
        bar = _Bar(self.errors, description)
        try:
            yield bar
        finally:
            bar.close()

    @contextmanager
    def working(self, description: str) -> Iterator[None]:
        """Show a spinner on stderr while work without a known length goes on."""
        if not self.errors.is_terminal:
            yield
            return
        with self.errors.status(Text(description)):
            yield


class _Bar:
    def __init__(self, console: Console, description: str) -> None:
        self._started = time.monotonic()
        self._visible, self._done = False, 0
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(description, total=None)

    def __call__(self, done: int, total: int) -> None:
        if not self._visible and time.monotonic() - self._started > _SHOW_AFTER_SECONDS:
            self._visible = True
            self._progress.start()
        if done < self._done:  # the next stage
            self._progress.reset(self._task)
        self._done = done
        self._progress.update(self._task, completed=done, total=total)

    def close(self) -> None:
        if self._visible:
            self._progress.stop()


class LogLine:
    """Progress where no bar can be drawn, as in a log: a line a minute, with the time left.

    Args:
        console: what the lines are printed to.
        clock: seconds; never runs backwards.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._started = self._last = clock()
        self._work, self._first, self._done = "", 0, 0

    def progress(self, description: str, done: int, total: int) -> None:
        """Print how far the work has come, unless the last line is less than a minute old."""
        now = self._clock()
        if description != self._work or done < self._done:  # another piece of work, or its next stage
            self._work, self._first, self._started = description, done, now
        self._done = done
        if now - self._last < _LOG_EVERY_SECONDS:
            return
        self._last = now
        made = done - self._first
        left = f", about {duration((now - self._started) / made * (total - done))} left" if made else ""
        self._console.print(f"{description}: {done}/{total}{left}")


def duration(seconds: float) -> str:
    """Return a time for people to read."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"
