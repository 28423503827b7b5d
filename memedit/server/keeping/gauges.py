"""Figures for Prometheus about the request log and quotas."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from memedit.errors import StoreError
from memedit.memory import EditMemory
from memedit.server.keeping.quotas import QuotaKeeper
from memedit.server.keeping.request_log import RequestRecorder
from memedit.server.keeping.usage import usages


class KeptGauges(Collector):
    """What is read when it is asked for.

    Args:
        memory: has the quotas, and counts edits.
        quotas: knows the rates and refusals of this server.
        log: knows what was written and dropped.
    """

    def __init__(self, memory: EditMemory, quotas: QuotaKeeper, log: RequestRecorder) -> None:
        self._memory, self._quotas, self._log = memory, quotas, log

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not read the memory."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read log and quotas."""
        if self._log.on:
            log = self._log
            yield CounterMetricFamily("memedit_request_log_rows", "Requests written to the log.", value=log.written)
            yield CounterMetricFamily("memedit_request_log_dropped", "Requests not logged.", value=log.dropped)
            yield GaugeMetricFamily("memedit_request_log_waiting", "Requests to be logged.", value=log.waiting)
        refused = CounterMetricFamily("memedit_quota_refusals", "Requests refused by a quota.", labels=["of", "kind"])
        for labels, count in dict(self._quotas.refusals).items():
            refused.add_metric(labels, count)
        yield refused
        limit = GaugeMetricFamily("memedit_quota_limit", "What a quota allows.", labels=["of", "name", "kind"])
        used = GaugeMetricFamily("memedit_quota_used", "What is used of it.", labels=["of", "name", "kind"])
        try:
            for one in usages(self._memory, self._quotas):
                limit.add_metric((one.of, one.name, one.kind), one.limit)
                used.add_metric((one.of, one.name, one.kind), one.used)
        except StoreError:
            return  # memedit_memory_up says so
        yield limit
        yield used
