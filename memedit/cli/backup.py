"""``memedit backup`` and ``memedit restore``: a memory with all that belongs to it in one file, and back."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.failures import FAILED
from memedit.cli.options import Needs, command, read_time
from memedit.cli.output import Output

if TYPE_CHECKING:
    from memedit.cli.session import Session

Versions = Annotated[
    Path | None,
    typer.Option(
        "--versions",
        file_okay=False,
        help="Folder of consolidated versions, as `memedit serve` takes it. [default: beside the memory's file]",
    ),
]
NoVersions = Annotated[bool, typer.Option("--no-versions", help="Leave consolidated versions out.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""

    @command(app, "backup", Needs.MEMORY)
    def backup(
        session: "Session",
        *,
        file: Annotated[
            Path, typer.Argument(help="New file; in a folder it is named after memory, time and revision.")
        ],
        versions: Versions = None,
        no_versions: NoVersions = False,
    ) -> None:
        """Write the whole memory to one file while servers go on: edits with their past, vectors, keys, versions."""
        from memedit.workflows.backups import back_up

        with session.output.working("backing up"):
            found = back_up(session.settings.memory, file, versions=versions, with_versions=not no_versions)

        def show(out: Output) -> None:
            out.line(f"{found.path}: {_summary(found)}, {found.bytes:,} bytes")

        session.output.emit(found, show)
        _end(session, found.problems, "the backup is whole, but it holds what was damaged before")

    @command(app, "restore", Needs.MEMORY)
    def restore(
        session: "Session",
        *,
        file: Annotated[Path, typer.Argument(help="The backup.")],
        versions: Versions = None,
        no_versions: NoVersions = False,
        revision: Annotated[
            int | None, typer.Option(min=0, help="Restore the memory as it was right after this change.")
        ] = None,
        at: Annotated[
            datetime | None, typer.Option(parser=read_time, metavar="TIME", help="Restore it as it was at this time.")
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Check every byte, say what would be restored, write nothing.")
        ] = False,
    ) -> None:
        """Make the memory at --memory of a backup, of SQLite or PostgreSQL; nothing that exists is overwritten."""
        from memedit.workflows import backups

        when: Any = {"revision": revision, "at": at}
        settings = session.settings
        if dry_run:
            with session.output.working("checking"):
                found = backups.inspect_backup(file, **when)
        else:
            with session.output.progress("encoding") as progress:
                found = backups.restore(
                    file,
                    settings.memory,
                    versions=versions,
                    with_versions=not no_versions,
                    encoder=settings.encoder,
                    progress=progress,
                    **when,
                )

        def show(out: Output) -> None:
            what = "is whole and holds" if dry_run else "restored:"
            out.line(f"{file} {what} {_summary(found)}, made {found.made_at}")
            out.line(f"it can be taken back to revisions {found.oldest_revision} to {found.newest_revision}")
            if found.encoded:
                out.line(f"{found.encoded} edits whose texts changed later were encoded anew")
            for namespace, name in found.settings:
                out.note(f"setting {name} of {namespace} was set later and stays: settings have no past")

        session.output.emit(found, show)
        _end(session, found.problems, "restored, but")


def _summary(found: Any) -> str:
    parts = ((sum(found.edits.values()), "edit"), (len(found.edits), "namespace"), (len(found.versions), "version"))
    counted = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in parts)
    return f"{counted}, revision {found.revision}"


def _end(session: "Session", problems: tuple[str, ...], what: str) -> None:
    """Tell of problems; the exit code says that there are some."""
    for problem in problems:
        session.output.note(f"{what}: {problem}", style="bold red")
    if problems:
        raise typer.Exit(FAILED)
