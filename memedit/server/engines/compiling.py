"""Compiling structures beside the event loop, each within a time."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from memedit.errors import StructureError, UnsupportedModelError
from memedit.runtime.structured import Grammar, Grammars, Structure
from memedit.server.engines.structures import wrong_structure
from memedit.server.engines.toolbox import CallStyle, Toolbox, calls_structure
from memedit.server.problems import ApiError, overloaded
from memedit.server.queues import FairThreads

T = TypeVar("T")

_THREADS, _WAITING = 2, 16


class Compiler:
    """Compiles what clients ask answers to be, in threads of its own, for each of them one at a time.

    Args:
        grammars: the model's.
        seconds: how long one may take.
    """

    def __init__(self, grammars: Grammars, seconds: float = 10.0) -> None:
        self._grammars, self._seconds = grammars, seconds
        self._threads = FairThreads("grammar", _THREADS, at_once=1, per_key=_WAITING)

    async def compile(self, who: str, structure: Structure, field: str) -> Grammar:
        """Return a structure compiled.

        Raises:
            ApiError: 400 with the name of ``field``, it cannot be used or takes too long; 429, too many are waiting.
        """
        return await self._within(who, lambda: self._grammars.compile(structure), field)

    async def compile_calls(
        self, who: str, toolbox: Toolbox, style: CallStyle, answer: Structure | None
    ) -> Grammar | None:
        """Return what an answer that may call tools has to be, compiled; None when it may be anything.

        Raises:
            ApiError: as for :meth:`compile`.
        """

        def work() -> Grammar | None:
            structure = calls_structure(toolbox, style, self._grammars.compile, answer)
            return None if structure is None else self._grammars.compile(structure)

        return await self._within(who, work, "tools")

    async def _within(self, who: str, work: Callable[[], T], field: str) -> T:
        begun = threading.Event()

        def begin() -> T:
            begun.set()
            return work()

        try:
            return await asyncio.wait_for(self._threads.run(who, begin), self._seconds)
        except StructureError as error:
            raise wrong_structure(error, field) from error
        except UnsupportedModelError as error:
            raise ApiError(400, f"{field}: {error}", code="unsupported_parameter", param=field) from error
        except TimeoutError as error:
            if not begun.is_set():
                raise overloaded("others' schemas and grammars are being compiled", self._seconds) from error
            message = f"{field}: it took more than {self._seconds:g} seconds to compile; make it simpler"
            raise ApiError(400, message, code="invalid_structure", param=field) from error

    def close(self) -> None:
        """Start no more."""
        self._threads.close()
