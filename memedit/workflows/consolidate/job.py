"""One consolidation job, from the selection of its edits to the version."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.consolidation.apply import applied
from memedit.consolidation.ledger import Aliases
from memedit.consolidation.records import VersionRecord
from memedit.consolidation.verdicts import Verdict
from memedit.consolidation.versions import VersionStore
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.consolidate.building import Solved, fill_folder, make_record
from memedit.workflows.consolidate.checking import check_edits
from memedit.workflows.consolidate.clock import Callback, JobClock
from memedit.workflows.consolidate.gates import Findings, judge, measure, prepare_questions
from memedit.workflows.consolidate.monitors import shattering_gate
from memedit.workflows.consolidate.planning import JobPlan, keep_rates
from memedit.workflows.consolidate.probes import read_probes
from memedit.workflows.consolidate.selecting import Selection
from memedit.workflows.consolidate.settings import JobSettings
from memedit.workflows.consolidate.solving import artefacts_of, chat_form, settle, statistics_of
from memedit.workflows.consolidate.states import ATTEMPT, sync_states


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job did. ``record`` is None when there was nothing to do, or nothing left to write.

    ``published`` says that the version is the champion now; ``message`` is the outcome in a sentence.
    """

    plan: JobPlan
    record: VersionRecord | None
    published: bool
    aliases: Aliases
    message: str


@dataclass
class Job:
    """One job under its lease."""

    memory: EditMemory
    loaded: LoadedModel
    store: VersionStore
    settings: JobSettings
    selection: Selection
    planned: JobPlan
    progress: Callback | None

    def run(self, publish: bool) -> JobResult:
        """Do it; ``publish`` lets the candidate become champion when its verdict allows."""
        clock = JobClock(self.planned.seconds, self.progress)
        base = BareAnswerer(self.loaded)
        statistics = statistics_of(self.loaded, self.settings, clock.begin("statistics"))
        step = clock.begin("keys and targets")
        artefacts = artefacts_of(self.memory, self.loaded, self.selection, self.settings, step)
        step = clock.begin("solve and check")
        solved = settle(
            self.loaded,
            base,
            self.selection.edits,
            artefacts,
            statistics=statistics,
            settings=self.settings,
            progress=step,
        )
        self._note_attempt()
        if solved is None:
            message = "no edit passed its own check: all stay with the memory, and no version was made"
            return JobResult(self.planned, None, False, self.store.aliases(), message)
        step = clock.begin("gates")
        gates = self._gates(base, solved, step)
        clock.begin("write")
        name = self.store.make(lambda name, folder: self._build(name, folder, solved, gates, clock.seconds()))
        clock.end()
        keep_rates(
            self.memory, self.loaded, self.planned, self.selection, settings=self.settings, spent=clock.seconds()
        )
        return self._finish(self.store.record(name), publish)

    def _gates(self, base: BareAnswerer, solved: Solved, step: Any) -> Any:
        """Measure base and candidate; the checks of the base are for people to compare with."""
        edits = [check.edit for check in (*solved.checks, *solved.rejected)]
        probes = read_probes(self.settings, edits)
        questions = prepare_questions(base, self.loaded, probes, self.settings)
        total, done = 2 * questions.count, 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            step(min(done, total), total)

        form = chat_form(self.loaded, self.settings)
        before = measure(base, questions, self.settings, tick)
        base_checks = check_edits(base, edits, self.settings, chat=form)
        with applied(self.loaded, solved.delta):
            after = measure(base, questions, self.settings, tick)
        gates = judge(
            probes,
            Findings(before, tuple(base_checks)),
            Findings(after, (*solved.checks, *solved.rejected)),
            self.settings.limits,
        )
        if self.settings.shattering:
            gates.append(shattering_gate(self.loaded, base, solved.delta, edits, self.settings.solver.layers))
        return gates

    def _build(self, name: str, folder: Path, solved: Solved, gates: Any, seconds: Mapping[str, float]) -> None:
        record = make_record(
            name,
            self.loaded,
            solved,
            namespace=self.memory.namespace,
            gates=gates,
            settings=self.settings,
            seconds=seconds,
        )
        fill_folder(folder, self.loaded, solved, record, self.settings)

    def _finish(self, record: VersionRecord, publish: bool) -> JobResult:
        allowed = record.verdict in self.settings.publish_on
        why = f"; {'; '.join(record.reasons)}" if record.reasons else ""
        if record.verdict is Verdict.FAIL:
            self.store.reject(record.name, {"verdict": record.verdict.value})
            message = f"version {record.name} FAILED its gates and was rejected; the champion stays{why}"
        elif publish and allowed:
            self.store.promote(record.name, {"verdict": record.verdict.value})
            sync_states(self.memory, self.store)
            self.store.prune(self.settings.keep)
            message = (
                f"version {record.name} ({record.verdict.value}) is the champion: {len(record.served)} edits are "
                f"answered by its weights ({len(record.served_in_chats)} of them in chats too), "
                f"{len(record.left_over)} of the job's by the memory{why}"
            )
        else:
            message = (
                f"version {record.name} ({record.verdict.value}) waits as candidate; `memedit versions promote "
                f"{record.name}` publishes it{why}"
            )
        published = self.store.aliases().champion == record.name
        return JobResult(self.planned, record, published, self.store.aliases(), message)

    def _note_attempt(self) -> None:
        self.memory.set_setting(ATTEMPT, self.selection.identity)
