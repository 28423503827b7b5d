"""Figures for Prometheus, in a registry of the server's own."""

from collections.abc import AsyncIterator, Iterator
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from memedit.errors import StoreError
from memedit.memory import EditMemory
from memedit.server.consolidations import Consolidator
from memedit.server.engines.base import Engine, Event, Passed, Piece, Provenance, Started, Usage
from memedit.server.lookups import Lookups
from memedit.server.version_watcher import VersionWatcher

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

_ANSWERS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})
"""Routes that answer prompts."""

_NAMESPACES = 1_000
"""Namespaces with figures of their own."""


class Metrics:
    """Counts what a server does, and looks at memory and engine when it is asked.

    Args:
        lookups: their memory is counted by namespace and state at each scrape, their weights are named.
        engine: asked for its load at each scrape.
        consolidator: asked for its jobs.
        watcher: asked whether the champion answers.
    """

    def __init__(
        self,
        lookups: Lookups,
        engine: Engine,
        consolidator: Consolidator | None = None,
        watcher: VersionWatcher | None = None,
    ) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "memedit_requests", "Answered requests.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "memedit_request_seconds", "Time to the end of a response.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._first = Histogram(
            "memedit_first_token_seconds", "Time to the first token.", buckets=_SECONDS, registry=registry
        )
        self._scope = Histogram(
            "memedit_scope_seconds", "Time of a look-up, all its prompts together.", buckets=_SECONDS, registry=registry
        )
        self._looked_up = Counter("memedit_prompts_looked_up", "Prompts looked up.", registry=registry)
        self._fired = Counter("memedit_edits_fired", "Edits that fired.", ["namespace"], registry=registry)
        self._prompts = Counter("memedit_prompts", "Prompts answered.", ["namespace", "edited"], registry=registry)
        self._tokens = Counter("memedit_tokens", "Tokens read and written.", ["kind"], registry=registry)
        self._namespaces: set[str] = set()
        registry.register(_Gauges(lookups, engine, consolidator, watcher))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def looked_up(self, prompts: int, seconds: float) -> None:
        """Count a look-up."""
        self._looked_up.inc(prompts)
        self._scope.observe(seconds)

    def started(self, found: Provenance) -> None:
        """Count a prompt that has been looked up."""
        namespace = self._named(found.namespace)
        self._prompts.labels(namespace, "yes" if found.fired else "no").inc()
        self._fired.labels(namespace).inc(len(found.fired))

    def _named(self, namespace: str) -> str:
        """A namespace as a label: those beyond the first thousand share one, for whoever asks may make names up."""
        if namespace not in self._namespaces:
            if len(self._namespaces) >= _NAMESPACES:
                return ""
            self._namespaces.add(namespace)
        return namespace

    def used(self, usage: Usage) -> None:
        """Count the tokens of a request."""
        self._tokens.labels("prompt").inc(usage.prompt_tokens)
        self._tokens.labels("completion").inc(usage.completion_tokens)

    async def counted(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        """Pass the events of a streamed request on, counting."""
        since, first = perf_counter(), True
        try:
            async for event in events:
                if isinstance(event, Started):
                    self.started(event.provenance)
                elif isinstance(event, Piece | Passed) and first:
                    self._first.observe(perf_counter() - since)
                    first = False
                if isinstance(event, Usage):
                    self.used(event)
                elif isinstance(event, Passed) and event.usage is not None:
                    self.used(event.usage)
                yield event
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    def totals(self) -> dict[str, float]:
        """Return what the counters have come to, by short names, all labels together."""
        answered = {"requests": 0.0, "errors": 0.0, "refused": 0.0}
        for sample in self._samples(self._requests, "_total"):
            status = sample.labels["status"]
            answered["requests"] += sample.value if sample.labels["route"] in _ANSWERS else 0
            answered["errors"] += sample.value if status.startswith("5") else 0
            answered["refused"] += sample.value if status == "429" else 0
        prompts = self._samples(self._prompts, "_total")
        tokens = {sample.labels["kind"]: sample.value for sample in self._samples(self._tokens, "_total")}
        return answered | {
            "prompts": sum(sample.value for sample in prompts),
            "edited": sum(sample.value for sample in prompts if sample.labels["edited"] == "yes"),
            "read": tokens.get("prompt", 0.0),
            "written": tokens.get("completion", 0.0),
            "lookups": self._sum(self._scope, "_count"),
            "lookup_seconds": self._sum(self._scope, "_sum"),
            "firsts": self._sum(self._first, "_count"),
            "first_seconds": self._sum(self._first, "_sum"),
        }

    def _samples(self, metric: Counter | Histogram, ending: str) -> list[Sample]:
        return [sample for family in metric.collect() for sample in family.samples if sample.name.endswith(ending)]

    def _sum(self, metric: Counter | Histogram, ending: str) -> float:
        return sum(sample.value for sample in self._samples(metric, ending))

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)


class _Gauges(Collector):
    """What is read when it is asked for."""

    def __init__(
        self, lookups: Lookups, engine: Engine, consolidator: Consolidator | None, watcher: VersionWatcher | None
    ) -> None:
        self._memory: EditMemory = lookups.memory
        self._weights, self._engine, self._consolidator = lookups.weights, engine, consolidator
        self._watcher = watcher

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not read the memory."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read memory and engine."""
        load = self._engine.load()
        yield GaugeMetricFamily("memedit_queue_length", "Requests that wait.", value=load.waiting)
        yield GaugeMetricFamily("memedit_running", "Answers being generated.", value=load.running)
        if self._consolidator is not None:
            jobs = GaugeMetricFamily("memedit_consolidation_jobs", "Jobs since the start.", labels=["state"])
            for state, number in self._consolidator.states().items():
                jobs.add_metric([state], number)
            yield jobs
        yield from self._versions()
        counts = GaugeMetricFamily("memedit_edits", "Edits in the memory.", labels=["namespace", "state"])
        try:
            for namespace, states in self._memory.counts().items():
                for state, number in states.items():
                    counts.add_metric([namespace, state], number)
            revision = self._memory.revision
        except StoreError:
            yield GaugeMetricFamily("memedit_memory_up", "Whether the memory can be read.", value=0)
            return
        yield counts
        yield GaugeMetricFamily("memedit_revision", "Newest change of the memory.", value=revision)
        yield GaugeMetricFamily("memedit_memory_up", "Whether the memory can be read.", value=1)

    def _versions(self) -> Iterator[Metric]:
        """Name the version in use; nothing on a server whose weights are the plain base for everyone."""
        weights = self._weights
        if weights.namespace is None:
            return
        info = GaugeMetricFamily(
            "memedit_version", "1 for the version whose weights answer a namespace.", labels=["namespace", "version"]
        )
        info.add_metric([weights.namespace, weights.own.version or "base"], 1)
        yield info
        if self._watcher is not None:
            current = self._watcher.problem is None
            yield GaugeMetricFamily("memedit_version_current", "Whether the champion answers.", value=int(current))
            yield CounterMetricFamily("memedit_version_swaps", "Versions put in place.", value=self._watcher.swaps)
