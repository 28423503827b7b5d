"""``memedit edit``: write, look up, change and withdraw edits."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli import testing
from memedit.cli.consolidate import Versions
from memedit.cli.files import file_or_shipped
from memedit.cli.options import Needs, command, key_values, read_time
from memedit.cli.output import Output
from memedit.cli.pairs import note_doubts, show_pairs
from memedit.cli.text import one_line, plain
from memedit.errors import InputError

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.memory import EditMemory
    from memedit.types import Edit
    from memedit.workflows.consolidate.standing import InWeights

app = typer.Typer(no_args_is_help=True, help="Write, look up, change and withdraw edits.")


class OnConflict(StrEnum):
    """What to do when an edit contradicts one in force."""

    ERROR = "error"
    SUPERSEDE = "supersede"
    KEEP = "keep"


class Kind(StrEnum):
    """What an edit is for; the same values as :class:`memedit.types.EditKind`, which needs NumPy to import."""

    FACT = "fact"
    CORRECTION = "correction"
    REFUSAL = "refusal"
    LONG_FORM = "long-form"
    STATEMENT = "statement"


class State(StrEnum):
    """Where an edit stands: the values of :class:`memedit.types.EditState`, and all of them."""

    PENDING = "pending"
    ACTIVE = "active"
    CONSOLIDATED = "consolidated"
    RETIRED = "retired"
    ALL = "all"


class SearchMode(StrEnum):
    """How to search."""

    TEXT = "text"
    SEMANTIC = "semantic"


EditId = Annotated[str, typer.Argument(metavar="ID", help="Id of the edit.")]
Subject = Annotated[str | None, typer.Option(help="What the edit is about. [default: found in the prompt]")]
Paraphrases = Annotated[
    list[str] | None, typer.Option("--paraphrase", help="Another wording of the prompt; may be repeated.")
]
Blocks = Annotated[list[str] | None, typer.Option("--block", help="A text that must not fire it; may be repeated.")]
GroundTruth = Annotated[str | None, typer.Option(help="The old or wrong answer, kept for evaluation.")]
Meta = Annotated[list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Metadata; may be repeated.")]
Source = Annotated[str | None, typer.Option(help="Where the correction comes from.")]
ValidAt = Annotated[
    datetime | None,
    typer.Option(parser=read_time, metavar="TIME", help="Holds in the world from this time on; UTC unless it says."),
]
InvalidAt = Annotated[
    datetime | None,
    typer.Option(parser=read_time, metavar="TIME", help="Holds in the world until this time; UTC unless it says."),
]
AsOf = Annotated[
    datetime | None,
    typer.Option(parser=read_time, metavar="TIME", help="As the memory stood at this time; UTC unless it says."),
]
Taught = Annotated[str, typer.Argument(help="The text, as it is asked.")]
Remove = Annotated[bool, typer.Option("--remove", help="Take it back.")]
Conflict = Annotated[OnConflict, typer.Option(help="When it contradicts an edit in force.")]


@command(app, "add", Needs.MEMORY)
def add(
    session: "Session",
    *,
    prompt: Annotated[str, typer.Argument(help="A question, the beginning of a sentence, or a whole statement.")],
    target: Annotated[
        str | None, typer.Argument(help="The answer it should get from now on. [default: found in the statement]")
    ] = None,
    subject: Subject = None,
    paraphrase: Paraphrases = None,
    block: Blocks = None,
    ground_truth: GroundTruth = None,
    kind: Annotated[Kind, typer.Option(help="What the edit is for.")] = Kind.FACT,
    meta: Meta = None,
    source: Source = None,
    valid_at: ValidAt = None,
    invalid_at: InvalidAt = None,
    on_conflict: Conflict = OnConflict.ERROR,
) -> None:
    """Add one edit; it is in force in the next answer. Adding the same edit twice changes nothing.

    With a statement alone ("The mayor of Tolburia is Ana Brill") its subject and its answer are found in it.
    """
    if target is None and kind is Kind.FACT:
        kind = Kind.STATEMENT
    elif target is None and kind is not Kind.STATEMENT:
        raise typer.BadParameter(f"--kind {kind.value} needs a target beside the prompt")
    edit = session.memory(absent="make").add(
        prompt,
        prompt if target is None else target,
        subject=subject,
        paraphrases=tuple(paraphrase or ()),
        blocks=tuple(block or ()),
        ground_truth=ground_truth,
        kind=kind.value,
        metadata=key_values("--meta", meta),
        source=source,
        valid_at=valid_at,
        invalid_at=invalid_at,
        on_conflict=on_conflict.value,
    )
    _emit_edit(session.output, edit)
    note_doubts(session.output, session.memory().possible_conflicts(edit.id))


@command(app, "import", Needs.MEMORY)
def import_edits(
    session: "Session",
    *,
    file: Annotated[
        Path,
        typer.Argument(
            parser=file_or_shipped("indexes"),
            metavar="FILE",
            help="File of edits: JSON, CSV, TSV or Markdown; .gz, .zst.",
        ),
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="auto, jsonl, counterfact (and requests of ROME, MEMIT), zsre, knowedit, mem0, openai, alpaca, or qa "
            "(questions and answers by their usual names); auto looks at the rows.",
        ),
    ] = "auto",
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="What the file calls a field of an edit; may be repeated."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of the file. [default: by its mark, else UTF-8; a table's is guessed]")
    ] = None,
    paraphrases: Annotated[
        bool, typer.Option(help="Take over a data set's rephrasings, which are meant as test questions.")
    ] = False,
    on_conflict: Conflict = OnConflict.ERROR,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Set rows that cannot be used aside, in a file beside this one.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; show what would be added, replaced and refused.")
    ] = False,
) -> None:
    """Import edits from a file; all rows go in, or none.

    A rehearsal (--dry-run) ends with the exit code that the import would have.
    """
    from memedit.cli.importing import exit_code, print_summary
    from memedit.workflows.edits import import_edits as run_import

    with session.output.progress(f"importing {file.name}") as progress:
        summary = run_import(
            session.memory(absent="pretend" if dry_run else "make"),
            file,
            form=form,
            columns=key_values("--map", columns),
            encoding=encoding,
            paraphrases=paraphrases,
            on_conflict=on_conflict.value,
            skip_invalid=skip_invalid,
            dry_run=dry_run,
            progress=progress,
        )
    session.output.emit(summary, lambda out: print_summary(out, summary))
    code = exit_code(summary, stops_at_conflict=on_conflict is OnConflict.ERROR, skip_invalid=skip_invalid)
    if code:
        raise typer.Exit(code)


@command(app, "list", Needs.MEMORY)
def list_edits(
    session: "Session",
    *,
    state: Annotated[State | None, typer.Option(help="Only edits in this state. [default: all but retired]")] = None,
    meta: Meta = None,
    as_of: AsOf = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Skip this many first.")] = 0,
) -> None:
    """List edits, oldest first."""
    memory = session.memory()
    wanted = key_values("--meta", meta)
    if as_of is None:
        edits = memory.list(state=state and state.value, metadata=wanted, limit=limit, offset=offset)
    else:
        then = [edit for edit in memory.as_of(as_of) if _matches(edit, state, wanted)]
        edits = then[offset : offset + limit]
    _emit_edits(session.output, edits)


@command(app, "show", Needs.MEMORY)
def show(session: "Session", edit_id: EditId, versions: Versions = None) -> None:
    """Show one edit whole, and how well the champion's weights answer it where it was consolidated."""
    memory = session.memory()
    edit = memory.get(edit_id)
    known = _in_weights(memory, edit, versions)
    if known is None:
        _emit_edit(session.output, edit)
    else:
        document = {**plain(edit), "in_weights": plain(known)}
        rows = [*_rows(edit), ("weights", str(known))]
        session.output.emit(document, lambda out: out.table(["field", "value"], rows))


@command(app, "search", Needs.MEMORY)
def search(
    session: "Session",
    text: Annotated[str, typer.Argument(help="Words to find, or a text near in meaning.")],
    k: Annotated[int, typer.Option("-k", min=1, help="At most this many.")] = 10,
    mode: Annotated[SearchMode, typer.Option(help="By words, or by meaning.")] = SearchMode.TEXT,
) -> None:
    """Search edits by words or by meaning."""
    found = session.memory().search(text, k=k, mode=mode.value)
    rows = [[f"{score:.3f}", edit.id, one_line(edit.prompt), one_line(edit.target, 30)] for edit, score in found]
    session.output.emit(
        [{"score": score, "edit": edit} for edit, score in found],
        lambda out: out.table(["score", "id", "prompt", "target"], rows),
    )


@command(app, "update", Needs.MEMORY)
def update(
    session: "Session",
    *,
    edit_id: EditId,
    prompt: Annotated[str | None, typer.Option(help="New prompt.")] = None,
    target: Annotated[str | None, typer.Option(help="New answer.")] = None,
    subject: Subject = None,
    paraphrase: Paraphrases = None,
    ground_truth: GroundTruth = None,
    meta: Meta = None,
    source: Source = None,
    valid_at: ValidAt = None,
    invalid_at: InvalidAt = None,
    on_conflict: Conflict = OnConflict.ERROR,
) -> None:
    """Change an edit; the version before stays in its history."""
    changes: dict[str, Any] = {
        "prompt": prompt,
        "target": target,
        "subject": subject,
        "paraphrases": tuple(paraphrase) if paraphrase else None,
        "ground_truth": ground_truth,
        "metadata": key_values("--meta", meta) or None,
        "source": source,
        "valid_at": valid_at,
        "invalid_at": invalid_at,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    if not given:
        raise typer.BadParameter("nothing to change: give at least one of --prompt, --target, --subject ...")
    _emit_edit(session.output, session.memory().update(edit_id, on_conflict=on_conflict.value, **given))


@command(app, "supersede", Needs.MEMORY)
def supersede(
    session: "Session",
    edit_id: EditId,
    target: Annotated[str, typer.Argument(help="The answer from now on.")],
    source: Source = None,
) -> None:
    """Put a new answer in an edit's place, in one step; the old edit is retired, not lost."""
    changes: dict[str, Any] = {} if source is None else {"source": source}
    _emit_edit(session.output, session.memory().supersede(edit_id, target=target, **changes))


@command(app, "rm", Needs.MEMORY)
def remove(
    session: "Session", edit_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the edits.")]
) -> None:
    """Withdraw edits: their answers are the model's own again. `restore` brings them back."""
    session.memory().delete_many(edit_ids)
    session.output.emit({"removed": edit_ids}, lambda out: out.line(f"withdrawn: {', '.join(edit_ids)}"))


@command(app, "restore", Needs.MEMORY)
def restore(session: "Session", edit_id: EditId, on_conflict: Conflict = OnConflict.ERROR) -> None:
    """Put a withdrawn edit in force again."""
    _emit_edit(session.output, session.memory().restore(edit_id, on_conflict=on_conflict.value))


@command(app, "block", Needs.MEMORY)
def block_text(session: "Session", edit_id: EditId, text: Taught, remove: Remove = False) -> None:
    """Teach an edit a text that must not fire it; in force at once."""
    _emit_edit(session.output, session.memory().block(edit_id, text, remove=remove))


@command(app, "also", Needs.MEMORY)
def also_text(session: "Session", edit_id: EditId, text: Taught, remove: Remove = False) -> None:
    """Teach an edit a text that must fire it too; in force at once."""
    _emit_edit(session.output, session.memory().also(edit_id, text, remove=remove))


@command(app, "conflicts", Needs.MEMORY)
def conflicts(
    session: "Session", edit_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only of this edit.")] = None
) -> None:
    """List pairs of edits in force that perhaps contradict each other; `settle` says which it is."""
    pairs = session.memory().possible_conflicts(edit_id)
    session.output.emit(pairs, lambda out: show_pairs(out, pairs))


@command(app, "settle", Needs.MEMORY)
def settle(
    session: "Session",
    edit_id: EditId,
    other_id: Annotated[str, typer.Argument(metavar="ID", help="The other edit of the pair.")],
    same: Annotated[
        bool | None,
        typer.Option("--same/--different", help="One question: the older edit is withdrawn. Or two facts: both stay."),
    ] = None,
) -> None:
    """Settle a pair that `conflicts` lists."""
    if same is None:
        raise typer.BadParameter("say --same (the older edit is withdrawn) or --different (they are two facts)")
    pair = session.memory().settle_conflict(edit_id, other_id, same=same)
    newer, older = one_line(pair.newer.target), one_line(pair.older.target)
    said = (
        f"withdrawn: {pair.older.id} ({one_line(pair.older.prompt)} {older}) for {pair.newer.id} ({newer})"
        if same
        else f"told apart: {pair.older.id} ({older}) and {pair.newer.id} ({newer}) both stay in force"
    )
    session.output.emit(pair, lambda out: out.line(said))


@command(app, "history", Needs.MEMORY)
def history(session: "Session", edit_id: EditId) -> None:
    """List what happened to an edit, oldest first."""
    changes = session.memory().history(edit_id)
    rows = [
        [
            str(change.edit.version),
            change.action,
            change.at.isoformat(timespec="seconds"),
            change.edit.state.value,
            one_line(change.edit.target),
            change.other or "",
        ]
        for change in changes
    ]
    columns = ["version", "change", "at", "state", "target", "other edit"]
    session.output.emit(changes, lambda out: out.table(columns, rows))


@command(app, "export", Needs.MEMORY)
def export(
    session: "Session",
    file: Annotated[Path, typer.Argument(dir_okay=False, help="File to write.")],
    form: Annotated[
        str, typer.Option("--format", help="jsonl, counterfact, zsre, knowedit, mem0, openai, alpaca or qa.")
    ] = "jsonl",
) -> None:
    """Export the edits in force to a file."""
    count = session.memory().export(file, format=form)
    session.output.emit({"path": str(file), "edits": count}, lambda out: out.line(f"{count} edits written to {file}"))


testing.register(app)


def _in_weights(memory: "EditMemory", edit: "Edit", folder: Path | None) -> "InWeights | None":
    """Return what the versions in a folder, or beside the memory's file, know of an edit."""
    from memedit.workflows.consolidate.standing import in_weights
    from memedit.workflows.consolidate.versions import version_store

    try:
        store = version_store(memory, folder)
    except InputError:
        return None  # no folder that versions could lie in
    return in_weights(memory, store, edit)


def _emit_edit(output: Output, edit: "Edit") -> None:
    output.emit(edit, lambda out: out.table(["field", "value"], _rows(edit)))


def _rows(edit: "Edit") -> list[tuple[str, str]]:
    rows = [
        ("id", edit.id),
        ("prompt", edit.prompt),
        ("target", edit.target),
        ("subject", edit.subject or ("none: a note about the user" if edit.kind.value == "statement" else "")),
        ("paraphrases", "\n".join(edit.paraphrases)),
        ("blocks", "\n".join(edit.blocks)),
        ("ground truth", edit.ground_truth or ""),
        ("kind", edit.kind.value),
        ("state", f"{edit.state.value}, version {edit.version}"),
        ("namespace", edit.namespace),
        ("source", edit.source or ""),
        ("metadata", ", ".join(f"{key}={value}" for key, value in edit.metadata.items())),
        ("known", f"{edit.created_at.isoformat(timespec='seconds')} to {_when(edit.expired_at) or 'now'}"),
        ("holds", f"{_when(edit.valid_at) or 'always'} to {_when(edit.invalid_at) or 'further notice'}"),
    ]
    return [row for row in rows if row[1]]


def _emit_edits(output: Output, edits: "list[Edit]") -> None:
    rows = [[edit.id, edit.state.value, one_line(edit.prompt), one_line(edit.target, 30)] for edit in edits]
    output.emit(edits, lambda out: out.table(["id", "state", "prompt", "target"], rows))


def _matches(edit: "Edit", state: State | None, metadata: dict[str, str]) -> bool:
    if state is None:
        in_state = edit.state.value != State.RETIRED.value
    else:
        in_state = state is State.ALL or edit.state.value == state.value
    return in_state and all(edit.metadata.get(key) == value for key, value in metadata.items())


def _when(when: datetime | None) -> str:
    return "" if when is None else when.isoformat(timespec="seconds")
