"""Look-ups away from the event loop, those that wait together in one pass of the encoder."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from memedit.runtime.asked import Asked
from memedit.server.lookups import LookupResult, Lookups
from memedit.server.turns import Turns

_LARGEST = 64


class LookupQueue:
    """One thread that judges prompts; what has gathered while it worked goes through the encoder together.

    A single text leaves most of a processor's arithmetic idle (reading the encoder's weights is what takes the time),
    so a batch of eight costs little more than one. Namespaces have their turns.
    """

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="memedit-lookup")
        self._waiting: Turns[tuple[str | Asked, asyncio.Future[LookupResult]]] = Turns()
        self._worker: asyncio.Task[None] | None = None

    async def find(self, namespace: str, query: str | Asked) -> LookupResult:
        """Judge one query; the look-up begins after this call did.

        Raises:
            StoreError: the memory cannot be read.
        """
        future: asyncio.Future[LookupResult] = asyncio.get_running_loop().create_future()
        self._waiting.put(namespace, (query, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    def close(self) -> None:
        """Stop the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        while (found := self._waiting.take()) is not None:
            namespace, first = found
            batch = [first, *self._waiting.more(namespace, _LARGEST - 1)]
            self._waiting.done(namespace)
            await self._judge(namespace, [(query, future) for query, future in batch if not future.done()])

    async def _judge(self, namespace: str, live: list[tuple[str | Asked, asyncio.Future[LookupResult]]]) -> None:
        """Judge prompts together; where that fails each for itself, so that it fails only for whose fault it is."""
        if not live:
            return
        queries = [query for query, _ in live]
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._executor, self._lookups.decide, namespace, queries)
        except Exception as error:
            if len(live) > 1:
                for one in live:
                    await self._judge(namespace, [one])
            elif not live[0][1].done():
                live[0][1].set_exception(error)
            return
        for (_, future), decision in zip(live, found.decisions, strict=True):
            if not future.done():
                future.set_result(replace(found, decisions=(decision,)))
