"""Where a command's results go: one JSON document or readable text on stdout, everything else on stderr."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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


class Output:
    """Prints results. With ``json_mode`` stdout carries exactly one JSON document.

    Args:
        json_mode: print documents, not text.
    """

    def __init__(self, *, json_mode: bool = False) -> None:
        self.json_mode = json_mode
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
        """Yield a ``(done, total)`` callback that drives a bar with the time left, on stderr."""
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
        self._visible = False
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(description, total=None)

    def __call__(self, done: int, total: int) -> None:
        if not self._visible and time.monotonic() - self._started > _SHOW_AFTER_SECONDS:
            self._visible = True
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total)

    def close(self) -> None:
        if self._visible:
            self._progress.stop()
