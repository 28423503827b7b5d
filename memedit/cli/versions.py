"""``memedit versions`` and ``memedit rollback``: what consolidation has made, and which of it is in use."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.consolidate import Versions, show_gates
from memedit.cli.options import Needs, command
from memedit.cli.output import Output
from memedit.cli.text import plain

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.consolidation.ledger import Aliases
    from memedit.consolidation.versions import VersionStore

app = typer.Typer(no_args_is_help=True, help="Versions of the model that edits were consolidated into.")


class MergedFormat(StrEnum):
    """What whole weights are written as."""

    SAFETENSORS = "safetensors"
    GGUF = "gguf"


Name = Annotated[str, typer.Argument(metavar="VERSION", help="A version, or champion, candidate, previous.")]


def _store(session: "Session", folder: Path | None) -> "VersionStore":
    """Return the versions; where they lie beside the memory's file, the memory need not be opened."""
    from memedit.consolidation.versions import VersionStore
    from memedit.workflows.consolidate.versions import default_versions

    settings = session.settings
    return VersionStore(folder or default_versions(settings.memory, settings.namespace))


@command(app, "list", Needs.MEMORY)
def list_versions(session: "Session", versions: Versions = None) -> None:
    """List versions with their aliases, newest last."""
    store = _store(session, versions)
    aliases = store.aliases().named()
    records = [store.record(name) for name in store.names()]
    rows = [
        {
            "version": record.name,
            "alias": [alias for alias, name in aliases.items() if name == record.name],
            "verdict": record.verdict.value,
            "edits": len(record.edits),
            "served_by_weights": len(record.served),
            "method": record.method,
            "created_at": record.created_at,
        }
        for record in records
    ]
    document = {"folder": str(store.root), "aliases": aliases, "versions": rows}

    def show(out: Output) -> None:
        cells = [
            [
                record.name,
                ", ".join(alias for alias, name in aliases.items() if name == record.name),
                record.verdict.value,
                str(len(record.served)),
                str(len(record.edits)),
                record.method,
                record.created_at,
            ]
            for record in records
        ]
        out.table(["version", "alias", "verdict", "answered", "in the weights", "method", "made"], cells)
        if aliases["champion"] is None:
            out.note("champion: the plain base model")

    session.output.emit(document, show)


@command(app, "show", Needs.MEMORY)
def show_version(session: "Session", name: Name = "champion", versions: Versions = None) -> None:
    """Show a version: gates, edits, size of the changes, ledger entries, and whether its files are whole."""
    store = _store(session, versions)
    record = store.record(name)
    history = [entry.as_json() for entry in store.entries() if entry.version == record.name]
    damaged = [problem for problem in store.problems() if problem.startswith(f"{record.name}: ")]
    document = {"folder": str(store.folder(name)), **record.as_json(), "ledger": history, "problems": damaged}
    del document["samples"]

    def show(out: Output) -> None:
        out.line(f"{record.name}: {record.verdict.value}, {record.method} on {record.base_name}, {record.created_at}")
        out.line(f"{len(record.served)} edits answered by the weights, {len(record.left_over)} left to the memory")
        out.line(document["folder"])
        show_gates(out, record.gates)
        out.table(
            ["weight", "change, % of its norm"],
            [[module, f"{100 * change / weight:.3f}"] for module, (change, weight) in record.norms.items()],
        )
        out.table(["when", "what"], [[entry["at"], entry["action"]] for entry in history])
        for problem in damaged:
            out.line(problem, style="red")

    session.output.emit(document, show)


@command(app, "diff", Needs.MEMORY)
def diff(
    session: "Session",
    first: Annotated[str, typer.Argument(metavar="FIRST", help="A version, an alias, or base.")] = "previous",
    second: Annotated[str, typer.Argument(metavar="SECOND", help="A version, an alias, or base.")] = "champion",
    versions: Versions = None,
) -> None:
    """Compare two versions: which edits their weights answer, and how far the weights lie apart."""
    from memedit.workflows.consolidate.versions import diff as compare

    found = compare(_store(session, versions), first, second)

    def show(out: Output) -> None:
        for word, ids in (("added", found.added), ("removed", found.removed), ("changed", found.changed)):
            out.line(f"{word}: {len(ids)} " + ", ".join(ids[:20]) + (" ..." if len(ids) > 20 else ""))
        rows = [[module, f"{value:.3g}"] for module, value in found.distance.items()]
        out.table(["weight", "distance, relative to the base's norm"], rows)

    session.output.emit(found, show)


@command(app, "promote", Needs.MEMORY)
def promote(session: "Session", name: Name, versions: Versions = None) -> None:
    """Make a version the champion by hand, whatever its verdict."""
    from memedit.workflows.consolidate.versions import promote as run_promote

    aliases = run_promote(session.memory(), _store(session, versions), name)
    _emit_aliases(session.output, aliases)


def register_rollback(root: typer.Typer) -> None:
    """Add ``memedit rollback`` to ``root``."""

    @command(root, "rollback", Needs.MEMORY)
    def rollback(session: "Session", versions: Versions = None) -> None:
        """Make the version before (or the plain base) the champion again; a second time takes it back."""
        from memedit.workflows.consolidate.versions import rollback as run_rollback

        aliases = run_rollback(session.memory(), _store(session, versions))
        _emit_aliases(session.output, aliases)


def _emit_aliases(output: Output, aliases: "Aliases") -> None:
    named: dict[str, Any] = plain(aliases.named())

    def show(out: Output) -> None:
        for alias, name in named.items():
            if name is not None or alias == "champion":
                out.line(f"{alias}: {name or 'the plain base model'}")

    output.emit({"aliases": named}, show)


def register_export(root: typer.Typer) -> None:
    """Add ``memedit export`` to ``root``."""

    @command(root, "export", Needs.MEMORY)
    def export(
        session: "Session",
        *,
        out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write: a folder, empty or not there.")],
        merged: Annotated[
            bool, typer.Option("--merged/--adapter", help="Whole weights, or the change alone as a PEFT adapter.")
        ] = True,
        format: Annotated[
            MergedFormat, typer.Option(help="What whole weights are written as.")
        ] = MergedFormat.SAFETENSORS,
        half: Annotated[bool, typer.Option("--half", help="GGUF: matrices in float16, not float32.")] = False,
        rank: Annotated[
            int | None, typer.Option(min=1, help="Of the adapter. [default: as large as the change's own, exact]")
        ] = None,
        ask: Annotated[int, typer.Option(min=0, help="Edits asked of what was written, in plain transformers.")] = 100,
        version: Annotated[str, typer.Option(help="A version, or champion, candidate, previous.")] = "champion",
        versions: Versions = None,
    ) -> None:
        """Write a version as a model that needs no memedit, ask its edits there, and say how many it answers."""
        from memedit.models import load_model
        from memedit.models.loading import checkpoint_folder
        from memedit.workflows.consolidate.exported import ExportFormat
        from memedit.workflows.consolidate.exporting import export_version

        with session.output.working("exporting"):
            found = export_version(
                session.memory(),
                _store(session, versions),
                version,
                out,
                format=ExportFormat(format.value) if merged else ExportFormat.PEFT,
                half=half,
                rank=rank,
                ask=ask,
                base=lambda name: (load_model(name), checkpoint_folder(name)),
            )

        def show(output: Output) -> None:
            output.line(f"{found.version} as {found.format.value} in {found.folder}: {found.bytes / 2**20:,.0f} MiB")
            if found.lora is not None:
                output.line(f"rank {found.lora.rank}, {100 * found.lora.kept:.2f}% of the change")
            if (held := found.held) is not None:
                interval = f"[{held.ci_low:.1f}, {held.ci_high:.1f}]"
                output.line(f"plain transformers: {held.value:.1f}% {interval} of {held.n} edits answered")

        session.output.emit(found, show)
