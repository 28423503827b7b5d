"""``memedit consolidate``: piled-up edits become weights; and ``withdraw``, which takes them out again."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.files import file_or_shipped
from memedit.cli.options import (
    EncoderName,
    JsonMode,
    MemoryUrl,
    ModelName,
    Namespace,
    Needs,
    command,
    key_values,
)
from memedit.cli.output import Output
from memedit.cli.text import plain

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.config import ConsolidationConfig
    from memedit.workflows.consolidate.operations import JobPlan, JobResult, JobSettings

app = typer.Typer(
    help="Write piled-up edits into the weights of a new version of the model; see also 'schedule'.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


class CheckKind(StrEnum):
    """When an edit passes its own check."""

    PREFIX = "prefix"
    EXACT = "exact"
    CONTAINS = "contains"


Configs = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        parser=file_or_shipped("configs"),
        metavar="FILE",
        help="A job as YAML of kind consolidation (a file, or a shipped one such as consolidation/nightly), or "
        "settings; may be repeated; options win.",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(help="rome, memit, alphaedit, rect, prune, ultraedit, malmen, rledit or kne. [default: alphaedit]"),
]
Filter = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="KEY=VALUE", help="Only new edits with this metadata; may be repeated."),
]
Versions = Annotated[
    Path | None,
    typer.Option("--versions", file_okay=False, help="Folder of the versions. [default: beside the memory's file]"),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting, as rounds=1 or solver.l2=0.5; may be repeated."),
]
Check = Annotated[
    CheckKind | None, typer.Option(help="How an edit's answer must look to be left to the weights. [default: prefix]")
]
Publish = Annotated[bool, typer.Option(help="Make the candidate champion when its verdict allows.")]


@app.callback()
def run(
    ctx: typer.Context,
    *,
    method: Method = None,
    filters: Filter = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do and take.")] = False,
    check: Check = None,
    publish: Publish = True,
    again: Annotated[bool, typer.Option("--again", help="Solve even when there is nothing new.")] = False,
    overrides: Overrides = None,
    versions: Versions = None,
    memory: MemoryUrl = None,
    namespace: Namespace = None,
    encoder: EncoderName = None,
    model: ModelName = None,
    config: Configs = None,
    json_mode: JsonMode = False,
) -> None:
    """Solve for all edits in force, measure gates on the candidate with the memory out of the way, and publish it."""
    if ctx.invoked_subcommand is not None:
        return
    from memedit.workflows import consolidate as workflow

    options = {"memory": memory, "namespace": namespace, "encoder": encoder, "model": model}
    with _opened(config, json_mode=json_mode, **options) as (session, job):
        settings = _settings(job, method, check, overrides)
        store_folder = versions or job.versions
        edits, wanted = session.memory(), key_values("--filter", filters) or dict(job.filter)
        store = workflow.version_store(edits, store_folder)
        loaded = session.base_model()
        if dry_run:
            planned = workflow.plan(edits, loaded, store, settings, metadata=wanted)
            session.output.emit(_plan_document(planned), lambda out: _show_plan(out, planned))
            return
        with session.output.progress("consolidating") as progress:
            result = workflow.run(
                edits,
                loaded,
                store,
                settings,
                metadata=wanted,
                publish=publish,
                again=again,
                progress=_in_permille(progress),
            )
        emit_result(session.output, result)


@app.command(name="plan")
def plan_command(
    *,
    edits: Annotated[
        int | None, typer.Option(min=1, help="Plan for so many edits like those there are. [default: these]")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Edits done for real, to measure by.")] = 16,
    method: Method = None,
    filters: Filter = None,
    overrides: Overrides = None,
    versions: Versions = None,
    memory: MemoryUrl = None,
    namespace: Namespace = None,
    encoder: EncoderName = None,
    model: ModelName = None,
    config: Configs = None,
    json_mode: JsonMode = False,
) -> None:
    """Say how long a job will take and what memory it needs, by doing a few of its edits; writes nothing."""
    from memedit.workflows import consolidate as workflow

    options = {"memory": memory, "namespace": namespace, "encoder": encoder, "model": model}
    with _opened(config, json_mode=json_mode, **options) as (session, job):
        store, wanted = session.memory(), key_values("--filter", filters) or dict(job.filter)
        found = workflow.forecast(
            store,
            session.base_model(),
            workflow.version_store(store, versions or job.versions),
            _settings(job, method, None, overrides),
            metadata=wanted,
            edits=edits,
            sample=sample,
        )
        document = {**plain(found), "total_seconds": round(found.total_seconds, 1), "peak_bytes": found.peak_bytes}
        rows = [
            ("edits", f"{found.edits:,} ({found.sampled:,} done for real)"),
            *((f"seconds: {stage}", f"{value:,.0f}") for stage, value in found.seconds.items()),
            ("seconds in all", f"{found.total_seconds:,.0f}"),
            *((f"memory: {stage}", f"{value / 2**20:,.0f} MiB") for stage, value in found.bytes.items()),
            ("disk", f"{found.disk_bytes / 2**20:,.0f} MiB"),
        ]
        session.output.emit(document, lambda out: out.table(["what", "value"], [list(row) for row in rows]))


@app.command()
def schedule(
    *,
    every: Annotated[int | None, typer.Option(min=1, help="When so many edits wait.")] = None,
    max_age: Annotated[
        float | None, typer.Option(min=0.0, metavar="HOURS", help="When an edit has waited long.")
    ] = None,
    cron: Annotated[str | None, typer.Option(help='When a cron line says, in UTC: "0 3 * * *".')] = None,
    poll: Annotated[float | None, typer.Option(min=0.1, help="Seconds between looks. [default: 60]")] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, do the job if it is due, and end.")] = False,
    method: Method = None,
    filters: Filter = None,
    check: Check = None,
    publish: Publish = True,
    overrides: Overrides = None,
    versions: Versions = None,
    memory: MemoryUrl = None,
    namespace: Namespace = None,
    encoder: EncoderName = None,
    model: ModelName = None,
    config: Configs = None,
    json_mode: JsonMode = False,
) -> None:
    """Consolidate again and again: after so many edits, by a cron line, or by age. Several may run; one works."""
    from datetime import timedelta

    from memedit.workflows import consolidate as workflow
    from memedit.workflows.consolidate.configuring import schedule_of
    from memedit.workflows.consolidate.schedule import due, run_schedule

    options = {"memory": memory, "namespace": namespace, "encoder": encoder, "model": model}
    with _opened(config, json_mode=json_mode, **options) as (session, job):
        age = None if max_age is None else timedelta(hours=max_age)
        when = schedule_of(job, every_edits=every, max_age=age, cron=cron, poll_seconds=poll)
        settings = _settings(job, method, check, overrides)
        edits, wanted = session.memory(), key_values("--filter", filters) or dict(job.filter)
        store = workflow.version_store(edits, versions or job.versions)

        def work(reason: str) -> None:
            result = workflow.run(edits, session.base_model(), store, settings, metadata=wanted, publish=publish)
            emit_result(session.output, result)

        if not once:
            run_schedule(edits, store, when, work, metadata=wanted, report=session.output.note)
        elif (reason := due(edits, store, when, metadata=wanted)) is not None:
            work(reason)
        else:
            session.output.emit({"due": False}, lambda out: out.line("nothing is due"))


def register_withdraw(root: typer.Typer) -> None:
    """Add ``memedit withdraw`` to ``root``."""

    @command(root, "withdraw", Needs.MEMORY | Needs.BASE)
    def withdraw(
        session: "Session",
        *,
        edit_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the edits.")],
        overrides: Overrides = None,
        versions: Versions = None,
    ) -> None:
        """Withdraw edits from the memory and from the weights: all others are solved for again, from what is kept."""
        from memedit.workflows import consolidate as workflow

        job = session.consolidation
        edits = session.memory()
        store = workflow.version_store(edits, versions or job.versions)
        # a withdrawal changes the edits and nothing else, unless told to
        given = bool(overrides) or bool(job.model_fields_set - {"versions"})
        settings = _settings(job, None, None, overrides) if given else None
        with session.output.progress("withdrawing") as progress:
            result = workflow.withdraw(
                edits, session.base_model(), store, edit_ids, settings, progress=_in_permille(progress)
            )
        emit_result(session.output, result)


def _opened(config: list[Path] | None, *, json_mode: bool, **options: Any) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Any:
        from memedit.cli.session import Session

        with Session(json_mode=json_mode, config=config, **options) as session:
            yield session, session.consolidation

    return opened()


def _settings(
    job: "ConsolidationConfig", method: str | None, check: CheckKind | None, overrides: list[str] | None
) -> "JobSettings":
    from memedit.workflows.consolidate.configuring import job_settings

    given = {"method": method, "check": None if check is None else check.value}
    config = job.model_copy(update={name: value for name, value in given.items() if value is not None})
    return job_settings(config, key_values("--set", overrides))


def _in_permille(progress: Callable[[int, int], None]) -> Callable[[Any], None]:
    return lambda state: progress(round(1000 * state.share), 1000)


def _plan_document(planned: "JobPlan") -> dict[str, Any]:
    found: dict[str, Any] = plain(planned)
    return {**found, "total_seconds": round(planned.total_seconds, 1)}


def _show_plan(out: Output, planned: "JobPlan") -> None:
    rows = [
        ("edits in the weights", f"{planned.edits:,} ({planned.new:,} new, {planned.gone:,} taken out)"),
        ("layers", ", ".join(map(str, planned.layers))),
        ("keys and targets to compute", f"{planned.to_compute:,}"),
        ("statistics", "kept from before" if planned.statistics_kept else "to be gathered"),
        ("memory beyond the model", f"{planned.memory_bytes / 2**20:,.0f} MiB"),
        ("disk", f"{planned.disk_bytes / 2**20:,.0f} MiB"),
        *((f"seconds: {stage}", f"{value:,.0f}") for stage, value in planned.seconds.items()),
        ("seconds in all", f"{planned.total_seconds:,.0f} " + ("(as last time)" if planned.measured else "(a guess)")),
        *((f"left out: {reason}", f"{count:,}") for reason, count in planned.skipped),
    ]
    out.table(["what", "value"], [list(row) for row in rows])


def emit_result(output: Output, result: "JobResult") -> None:
    """Print what a job did."""
    record = result.record
    document: dict[str, Any] = {
        "message": result.message,
        "published": result.published,
        "version": None if record is None else record.name,
        "verdict": None if record is None else record.verdict.value,
        "aliases": result.aliases.named(),
    }
    if record is not None:
        document |= {
            "edits": len(record.edits),
            "served_by_weights": len(record.served),
            "left_to_memory": len(record.left_over),
            "gates": [gate.as_json() for gate in record.gates],
            "seconds": dict(record.seconds),
        }

    def show(out: Output) -> None:
        if record is not None:
            show_gates(out, record.gates)
            out.line()
        out.line(result.message)

    output.emit(document, show)


def show_gates(out: Output, gates: Any) -> None:
    """Print gates as a table."""
    rows = [
        [gate.name, gate.verdict.value, _figure(gate.base), _figure(gate.candidate), f"{gate.n:,}", gate.reason]
        for gate in gates
    ]
    out.table(["gate", "verdict", "base", "version", "n", "why"], rows)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
