"""Jobs under way, one for each namespace at most, and what happened to those before."""

import json
import logging
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from memedit.server.consolidations.setup import ConsolidationSetup
from memedit.server.problems import ApiError

_log = logging.getLogger("memedit.server")
_KEPT = 100
_LAST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job stands. ``state`` is running, done, failed or cancelled; ``share`` of the work done lies in [0, 1].

    ``message`` is the outcome in a sentence; ``version`` the version it made, if any.
    """

    id: str
    namespace: str
    actor: str
    kind: str
    state: str
    started_at: datetime
    ended_at: datetime | None = None
    stage: str = "starting"
    share: float = 0.0
    eta_seconds: float | None = None
    message: str | None = None
    version: str | None = None
    published: bool = False


class Consolidator:
    """Starts jobs and follows them.

    Args:
        setup: where everything is; given to every job.
    """

    def __init__(self, setup: ConsolidationSetup) -> None:
        self.setup = setup
        self.published: Callable[[], None] | None = None
        """Called when a job has published a version, before it is told that the job is done."""
        self._jobs: dict[str, JobState] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()

    def start(
        self,
        namespace: str,
        actor: str,
        *,
        settings: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        publish: bool = True,
        again: bool = False,
        withdraw: Sequence[str] = (),
    ) -> JobState:
        """Start a job in a process of its own; return how it stands.

        Args:
            namespace: whose edits; ``actor`` is who asks for it.
            settings: fields of :class:`~memedit.workflows.consolidate.settings.JobSettings`.
            metadata: only new edits with this metadata.
            publish: make the candidate champion when its gates allow.
            again: solve even when there is nothing new.
            withdraw: edits to withdraw from memory and weights.

        Raises:
            ApiError: 409, a job of this namespace is under way here.
        """
        kind = "withdrawal" if withdraw else "consolidation"
        job = JobState(uuid.uuid4().hex, namespace, actor, kind, "running", datetime.now(UTC))
        orders = {
            "setup": self.setup.as_json(),
            "namespace": namespace,
            "actor": actor,
            "settings": dict(settings),
            "metadata": dict(metadata or {}),
            "publish": publish,
            "again": again,
            "withdraw": list(withdraw),
        }
        with self._lock:
            other = self.running(namespace)
            if other is not None:
                raise ApiError(409, f"job {other.id} of this namespace is under way", code="job_running")
            process = subprocess.Popen(
                [sys.executable, "-m", "memedit.server.consolidations.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._jobs[job.id], self._processes[job.id] = job, process
            self._forget()
        threading.Thread(target=self._follow, args=(job.id, process, json.dumps(orders)), daemon=True).start()
        return job

    def running(self, namespace: str) -> JobState | None:
        """Return the namespace's job under way in this server."""
        return next((j for j in self._jobs.values() if j.namespace == namespace and j.state == "running"), None)

    def jobs(self, namespace: str) -> list[JobState]:
        """Return the namespace's jobs since the server started, newest first."""
        return [job for job in reversed(list(self._jobs.values())) if job.namespace == namespace]

    def job(self, namespace: str, job_id: str) -> JobState:
        """Return one job.

        Raises:
            ApiError: 404, there is none in this namespace.
        """
        found = self._jobs.get(job_id)
        if found is None or found.namespace != namespace:
            raise ApiError(404, f"no job {job_id!r} in namespace {namespace!r}", code="job_not_found")
        return found

    def cancel(self, namespace: str, job_id: str) -> JobState:
        """End a job; what it has kept so far serves the next one, and nothing else has changed."""
        job = self.job(namespace, job_id)
        process = self._processes.get(job_id)
        if job.state == "running" and process is not None:
            self._change(job_id, state="cancelled", ended_at=datetime.now(UTC), message="cancelled")
            process.terminate()
        return self.job(namespace, job_id)

    def stop(self) -> None:
        """End all jobs: the server stops."""
        for job in list(self._jobs.values()):
            if job.state == "running":
                self.cancel(job.namespace, job.id)
        for process in list(self._processes.values()):
            try:
                process.wait(_LAST_SECONDS)
            except subprocess.TimeoutExpired:  # a kill loses nothing either
                process.kill()
                process.wait()

    def states(self) -> dict[str, int]:
        """Count the jobs by state."""
        counts = dict.fromkeys(("running", "done", "failed", "cancelled"), 0)
        for job in list(self._jobs.values()):
            counts[job.state] += 1
        return counts

    def _follow(self, job_id: str, process: subprocess.Popen[str], orders: str) -> None:
        """Give a process its orders and take down what it tells, until it ends."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(orders)
            process.stdin.close()
            for line in process.stdout:
                self._heard(job_id, json.loads(line))
        except (OSError, ValueError):
            _log.exception("consolidation job %s: its process cannot be followed", job_id)
        status = process.wait()
        self._processes.pop(job_id, None)
        job = self._jobs[job_id]
        if job.state == "running":
            message = f"its process ended with status {status} before it was done; the server's log says more"
            self._change(job_id, state="failed", ended_at=datetime.now(UTC), message=message)

    def _heard(self, job_id: str, told: dict[str, Any]) -> None:
        if self._jobs[job_id].state != "running":
            return
        now = datetime.now(UTC)
        if "result" in told:
            if told["result"]["published"] and self.published is not None:
                self.published()
            self._change(job_id, state="done", ended_at=now, share=1.0, eta_seconds=0.0, **told["result"])
        elif "error" in told:
            self._change(job_id, state="failed", ended_at=now, message=told["error"])
        else:
            self._change(job_id, **told)

    def _change(self, job_id: str, **fields: Any) -> None:
        self._jobs[job_id] = replace(self._jobs[job_id], **fields)

    def _forget(self) -> None:
        ended = [job_id for job_id, job in self._jobs.items() if job.state != "running"]
        for job_id in ended[: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[job_id]
