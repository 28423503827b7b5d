"""``memedit bench``: measure memedit beside its own reference, in the same run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.consolidate import Versions
from memedit.cli.options import Needs, command
from memedit.cli.output import Output
from memedit.cli.text import plain

if TYPE_CHECKING:
    from memedit.cli.session import Session

app = typer.Typer(
    no_args_is_help=True, help="Benchmarks; each prints a ratio to its reference, measured in the same run."
)

Minutes = Annotated[float | None, typer.Option(min=0.01, help="End after so long, whatever is done. [default: never]")]
Seed = Annotated[int, typer.Option(help="Seed of what is made up.")]


@command(app, "ingest", Needs.ENCODER)
def ingest(
    session: "Session",
    *,
    rows: Annotated[int, typer.Option(min=1, help="Edits to import.")] = 10_000,
    source: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File of edits. [default: made-up facts]")
    ] = None,
    vector_rows: Annotated[int, typer.Option(min=0, help="Edits to add with vectors given; 0 for none.")] = 20_000,
    seed: Seed = 0,
) -> None:
    """Import edits, encoding included, beside the bare encoder; and with vectors given."""
    from memedit.bench.ingest import run

    encoder = session.settings.encoder
    with session.output.progress("importing") as progress:
        found = run(rows, encoder=encoder, source=source, vector_rows=vector_rows, seed=seed, progress=progress)
    emit(session.output, found)


@command(app, "retrieval", Needs.ENCODER)
def retrieval(
    session: "Session",
    *,
    n: Annotated[int, typer.Option("-n", min=1000, help="Vectors in the index.")] = 1_000_000,
    kind: Annotated[str, typer.Option(help="Kind of index: ivf, hnsw, flat ...")] = "ivf",
    k: Annotated[int, typer.Option("-k", min=1, help="Results wanted for each query.")] = 10,
    queries: Annotated[int, typer.Option(min=1, help="Single queries timed.")] = 1_000,
    encoded: Annotated[
        int, typer.Option(min=100, help="Vectors encoded for real; the others are modelled on them.")
    ] = (20_000),
    seed: Seed = 0,
) -> None:
    """Search an index one query at a time on one core, beside the exact one."""
    from memedit.bench.retrieval import run

    found = run(
        n,
        kind=kind,
        k=k,
        queries=queries,
        encoder=session.settings.encoder,
        encoded=encoded,
        seed=seed,
        report=session.output.note,
    )
    emit(session.output, found)


@command(app, "overhead", Needs.SCOPE | Needs.MODEL)
def overhead(
    session: "Session",
    *,
    edits: Annotated[int, typer.Option(min=1, help="Made-up facts in the memory.")] = 1_000,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Rows a call, may be repeated. [default: 1 and 8]")
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens generated for each row.")] = 64,
    pairs: Annotated[int, typer.Option(min=1, help="Timed pairs of a bare and a wrapped call.")] = 9,
    in_scope: Annotated[bool, typer.Option("--in-scope", help="Ask about stored facts: every row is edited.")] = False,
    seed: Seed = 0,
) -> None:
    """Time the wrapper, beside the bare model's `generate`, on prompts that no edit concerns or that edits answer."""
    from memedit.bench.overhead import run

    settings = session.settings
    with session.output.progress("timing pairs") as progress:
        found = run(
            model=settings.model.name,
            edits=edits,
            batch_sizes=batch_size or (1, 8),
            new_tokens=new_tokens,
            pairs=pairs,
            seed=seed,
            scope=settings.scope.name,
            adapter=settings.adapter.name,
            in_scope=in_scope,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "evaluation", Needs.ENCODER | Needs.SCOPE | Needs.MODEL)
def evaluation(
    session: "Session",
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Data file of a published form.")],
    cases: Annotated[int, typer.Option(min=1, help="Cases stored and asked about.")] = 1_000,
    method: Annotated[
        str, typer.Option(help="Timed with the base: in_context:plain, rag or oracle.")
    ] = "in_context:plain",
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in one batch.")] = 64,
) -> None:
    """Time an evaluation, beside the bare model's `generate` on the same prompts in the same batches."""
    from memedit.bench.evaluation import run
    from memedit.evaluation.datasets import name_files

    settings = session.settings
    with session.output.progress("timing") as progress:
        found = run(
            name_files([data], [])[0],
            cases=cases,
            method=method,
            model=settings.model.name,
            scope=settings.scope.name,
            encoder=settings.encoder,
            batch_size=batch_size,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "serve", Needs.ENCODER | Needs.SCOPE | Needs.MODEL)
def serve(
    session: "Session",
    *,
    clients: Annotated[list[int] | None, typer.Option(help="Clients at once. [default: 1, 8 and 32]")] = None,
    edits: Annotated[int, typer.Option(min=1, help="Made-up facts in the memory.")] = 1_000,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 64,
    requests: Annotated[int, typer.Option(min=1, help="Requests of each client in a round.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds for each number of clients.")] = 3,
    edited: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of requests on which an edit fires.")] = 0.0,
    seed: Seed = 0,
) -> None:
    """Load `memedit serve` with clients, beside the bare model's `generate` at the same batch sizes."""
    from memedit.bench.server import run

    settings = session.settings
    with session.output.progress("serving") as progress:
        found = run(
            model=settings.model.name,
            encoder=settings.encoder,
            scope=settings.scope.name,
            adapter=settings.adapter.name,
            clients=clients or (1, 8, 32),
            edits=edits,
            new_tokens=new_tokens,
            requests=requests,
            rounds=rounds,
            edited=edited,
            seed=seed,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "proxy", Needs.ENCODER | Needs.SCOPE)
def proxy(
    session: "Session",
    *,
    edits: Annotated[int, typer.Option(min=1, help="Made-up facts in the memory.")] = 1_000,
    requests: Annotated[int, typer.Option(min=1, help="Pairs of requests for each upstream.")] = 200,
    first_token: Annotated[
        list[float] | None, typer.Option(help="Seconds to the pacing upstream's first token. [default: 0 and 0.05]")
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="A real engine to measure against. [default: a pacing one]")
    ] = None,
    upstream_model: Annotated[str, typer.Option(help="The real engine's name of its model.")] = "",
) -> None:
    """Time the first token through `memedit serve --upstream` and past it, on prompts that no edit touches."""
    from memedit.bench.proxy import run

    with session.output.progress("asking") as progress:
        found = run(
            edits=edits,
            requests=requests,
            first_token=first_token or (0.0, 0.05),
            encoder=session.settings.encoder,
            scope=session.settings.scope.name,
            upstream=upstream,
            model=upstream_model,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "shared", Needs.ENCODER | Needs.SCOPE)
def shared(
    session: "Session",
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="postgresql:// URL of a database that may be written.")],
    edits: Annotated[int, typer.Option(min=1, help="Edits made at one server and awaited at the other.")] = 200,
) -> None:
    """Time until an edit made at one of two servers on one PostgreSQL is in force at the other."""
    from memedit.bench.shared import run

    with session.output.progress("editing") as progress:
        found = run(
            url,
            edits=edits,
            encoder=session.settings.encoder,
            scope=session.settings.scope.name,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "consolidation", Needs.BASE)
def consolidation(
    session: "Session",
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="CounterFact in a published form.")],
    edits: Annotated[list[int] | None, typer.Option(min=1, help="Numbers of edits. [default: 10 and 100]")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Solvers. [default: alphaedit and memit]")] = None,
    sequential: Annotated[int | None, typer.Option(min=1, help="Also edit in batches of this size.")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Cases asked about at most.")] = 200,
    statistics_text: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Text of the key statistics. [default: own samples]"),
    ] = None,
    statistics_tokens: Annotated[int, typer.Option(min=2, help="Tokens of it.")] = 100_000,
    perplexity: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Text to take the perplexity of.")
    ] = None,
    capability: Annotated[
        Path | None,
        typer.Option(exists=True, help="Capability file, or a folder of them: 25 questions each."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for keys and targets, for another run.")
    ] = None,
    shattering: Annotated[bool, typer.Option("--shattering", help="Also measure representation shattering.")] = False,
    report: Annotated[Path | None, typer.Option(dir_okay=False, help="Page to draw the figures on (HTML).")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A consolidation setting; repeatable.")
    ] = None,
) -> None:
    """Write growing numbers of edits into weights, method by method, beside the untouched model."""
    from memedit.bench.weights import Plan, run
    from memedit.cli.options import key_values
    from memedit.config.overrides import with_overrides
    from memedit.consolidation.base import ConsolidationSettings
    from memedit.evaluation.report.growth_page import growth_page
    from memedit.whole_files import write_text

    plan = Plan(
        model=session.settings.model.name,
        data=data,
        edits=tuple(sorted(edits or (10, 100))),
        methods=tuple(method or ("alphaedit", "memit")),
        sequential=sequential,
        queries=queries,
        statistics_text=statistics_text,
        statistics_tokens=statistics_tokens,
        perplexity_text=perplexity,
        capability=capability,
        settings=with_overrides(ConsolidationSettings(), key_values("--set", overrides)),
        keep=keep,
        shattering=shattering,
    )
    with session.output.progress("consolidating") as progress:
        found = run(plan, progress=lambda stage, done, total: progress(done, total))
    if report is not None:
        write_text(report, growth_page(found["rows"]))
    emit(session.output, found)


@command(app, "hard", Needs.BASE)
def hard(
    session: "Session",
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="CounterFact in a published form.")],
    cases: Annotated[int, typer.Option(min=1, help="Edits whose subject is one word at the beginning.")] = 100,
    method: Annotated[list[str] | None, typer.Option(help="Solvers. [default: rome and alphaedit]")] = None,
    sentences: Annotated[int, typer.Option(min=2, help="Sentences of the collapse monitor.")] = 50,
    text: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Text for half of them.")] = None,
    controls: Annotated[
        int, typer.Option(min=0, help="Also so many slight changes, and a planted collapse, for the monitor to judge.")
    ] = 0,
    statistics_text: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Text of the key statistics. [default: own samples]"),
    ] = None,
    statistics_tokens: Annotated[int, typer.Option(min=2, help="Tokens of it.")] = 100_000,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A consolidation setting; repeatable.")
    ] = None,
) -> None:
    """Write hard edits into the weights, each alone and all together: does any of them break the model?"""
    from memedit.bench.hard import Plan, run
    from memedit.cli.options import key_values
    from memedit.config.overrides import with_overrides
    from memedit.consolidation.base import ConsolidationSettings

    plan = Plan(
        data=data,
        model=session.settings.model.name,
        cases=cases,
        methods=tuple(method or ("rome", "alphaedit")),
        sentences=sentences,
        text=text,
        statistics_text=statistics_text,
        statistics_tokens=statistics_tokens,
        settings=with_overrides(ConsolidationSettings(), key_values("--set", overrides)),
        controls=controls,
    )
    with session.output.progress("consolidating") as progress:
        found = run(plan, progress=lambda stage, done, total: progress(done, total))
    emit(session.output, found)


@command(app, "consolidation-undo", Needs.BASE)
def consolidation_undo(
    session: "Session",
    *,
    edits: Annotated[int, typer.Option(min=2, help="Edits, split in two halves.")] = 20,
    method: Annotated[str, typer.Option(help="rome, memit, alphaedit, rect, prune or ultraedit.")] = "alphaedit",
    data: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Data file of edits. [default: made-up facts]")
    ] = None,
    statistics_text: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Text of the key statistics. [default: own samples]"),
    ] = None,
    statistics_tokens: Annotated[int, typer.Option(min=2, help="Tokens of it.")] = 20_000,
    seed: Seed = 0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A consolidation setting; repeatable.")
    ] = None,
) -> None:
    """Say how far weights and answers differ by the order of edits, and after withdrawing from never having had."""
    from memedit.bench.consolidation import run
    from memedit.cli.options import key_values
    from memedit.config.overrides import with_overrides
    from memedit.consolidation.base import ConsolidationSettings

    with session.output.progress("consolidating") as progress:
        found = run(
            edits=edits,
            model=session.settings.model.name,
            method=method,
            data=data,
            settings=with_overrides(ConsolidationSettings(), key_values("--set", overrides)),
            statistics_text=statistics_text,
            statistics_tokens=statistics_tokens,
            seed=seed,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "namespaces", Needs.ENCODER | Needs.SCOPE)
def namespaces(
    session: "Session",
    *,
    queries: Annotated[int, typer.Option(min=1, help="Queries in all.")] = 100_000,
    minutes: Minutes = None,
    spaces: Annotated[int, typer.Option(min=2, help="Namespaces with edits on the same subjects.")] = 50,
    subjects: Annotated[int, typer.Option(min=2, help="Subjects that they share.")] = 100,
    seed: Seed = 0,
) -> None:
    """Ask in many namespaces about the same subjects, and count edits that come from another one (none may)."""
    from memedit.bench.namespaces import run

    settings = session.settings
    with session.output.progress("asking") as progress:
        found = run(
            queries=queries,
            minutes=minutes,
            namespaces=spaces,
            subjects=subjects,
            encoder=settings.encoder,
            scope=settings.scope.name,
            seed=seed,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "kills", Needs.ENCODER)
def kills(
    session: "Session",
    *,
    kills: Annotated[int, typer.Option(min=1, help="How often the server is killed.")] = 500,
    minutes: Minutes = None,
    writers: Annotated[int, typer.Option(min=1, help="Clients that write at once.")] = 4,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="An empty memory, as on PostgreSQL. [default: a SQLite file]")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Kill a server at random moments under writers, and count acknowledged changes that are lost or made twice."""
    from memedit.bench.kills import run

    with session.output.progress("killing") as progress:
        found = run(
            kills=kills,
            minutes=minutes,
            writers=writers,
            memory=url,
            encoder=session.settings.encoder,
            seed=seed,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "soak", Needs.ENCODER | Needs.SCOPE | Needs.MODEL)
def soak(
    session: "Session",
    *,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="How long, the quiet quarter at the beginning included.")
    ] = 20,
    clients: Annotated[int, typer.Option(min=1, help="Quiet clients, in four tenants.")] = 16,
    think: Annotated[float, typer.Option(min=0.001, help="Seconds between two requests of one, on average.")] = 0.5,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="Serve this engine's answers. [default: a model of its own]")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Load a server for long, edits coming and going, one tenant hostile: what the others notice, and its memory."""
    from memedit.bench.soak import Plan, run

    settings = session.settings
    options = ["--scope", settings.scope.name, "--adapter", settings.adapter.name]
    options += ["--model", settings.model.name] if upstream is None else ["--upstream", upstream]
    plan = Plan(minutes, clients, min(4, clients), think, seed, settings.encoder, options)
    with session.output.progress("soaking") as progress:
        found = run(plan, progress=progress)
    emit(session.output, found)


@command(app, "letter", Needs.SCOPE | Needs.MODEL | Needs.ENCODER)
def letter(
    session: "Session",
    *,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="JSONL rows of kind, prompt, other (the same asked) and target."
        ),
    ],
    raw: Annotated[bool, typer.Option("--raw", help="Ask in plain text: no chat template.")] = False,
    forced: Annotated[
        bool, typer.Option("--forced", help="Read targets instead of generating answers: as good for greedy decoding.")
    ] = False,
) -> None:
    """Ask for targets with line breaks and runs of blanks, and count the answers that are the target to the letter."""
    from memedit.bench.letter import read_targets, run

    model = session.model(session.memory(":memory:"))
    with session.output.progress("asking") as progress:
        found = run(model, read_targets(file), raw=raw, forced=forced, progress=progress)

    def show(out: Output) -> None:
        for form in found:
            exact = form.exact
            interval = f"{exact.value:.1f}% [{exact.ci_low:.1f}, {exact.ci_high:.1f}]"
            out.line(f"{form.form}: {interval} of {exact.n} to the letter; the edit alone fired on {form.fired}")
            out.line("  " + ", ".join(f"{kind} {right}/{n}" for kind, (right, n) in form.by_kind.items()))

    session.output.emit(found, show)


@command(app, "structured", Needs.SCOPE | Needs.MODEL | Needs.ENCODER)
def structured(
    session: "Session",
    *,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="JSONL rows of kind, prompt, target, ask, schema, at (a path) and value."
        ),
    ],
) -> None:
    """Ask for answers that hold to a JSON schema, and count those with the edit's value in its place."""
    from memedit.bench.structured import read_asks, run

    model = session.model(session.memory(":memory:"))
    with session.output.progress("asking") as progress:
        found = run(model, read_asks(file), progress=progress)

    def show(out: Output) -> None:
        for what, share in (("JSON", found.valid), ("the right value in its place", found.right)):
            out.line(f"{what}: {share.value:.1f}% [{share.ci_low:.1f}, {share.ci_high:.1f}] of {share.n}")
        out.line(f"the edit alone fired on {found.fired}; {found.seconds:.2f} s an answer")
        out.line("  " + ", ".join(f"{kind} {right}/{n}" for kind, (right, n) in found.by_kind.items()))

    session.output.emit(found, show)


@command(app, "chains", Needs.SCOPE | Needs.MODEL | Needs.ENCODER | Needs.CHAINS)
def chains(
    session: "Session",
    *,
    facts: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="JSONL rows of serial, prompt, subject, target, relation."),
    ],
    questions: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="JSONL rows of hops, questions, answer, aliases.")
    ],
    fill: Annotated[
        str | None, typer.Option(metavar="FILE[:N]", help="Put (N) edits of a data file into the memory first.")
    ] = None,
    unrelated: Annotated[int, typer.Option(min=0, help="Questions that no fact concerns.")] = 200,
    seed: Seed = 0,
) -> None:
    """Import contradicting facts in order and ask questions that run through one to four of them.

    Questions are looked up along chains unless --chains says otherwise.
    """
    from memedit.bench.chains import read_facts, read_questions, run

    policy = session.settings.chains if "chains" in session.settings.model_fields_set else "on"
    rows = read_facts(facts), read_questions(questions)
    model = session.model(session.memory(":memory:"), chains=policy)
    with session.output.progress("asking") as progress:
        found = run(model, *rows, fill=fill, unrelated=unrelated, seed=seed, progress=progress)
    emit_rows(session.output, found)


@command(app, "gated", Needs.MEMORY | Needs.SCOPE | Needs.MODEL)
def gated(
    session: "Session",
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Data file whose edits are consolidated.")],
    queries: Annotated[int, typer.Option(min=1, help="Cases asked about.")] = 250,
    pairs: Annotated[int, typer.Option(min=2, help="Timed pairs.")] = 40,
    versions: Versions = None,
    seed: Seed = 0,
) -> None:
    """Ask the memory alone, the champion's weights alone, and both, gated; and time what the weights save."""
    from memedit.bench.gated import run
    from memedit.evaluation.datasets import name_files
    from memedit.workflows.consolidate.versions import version_store
    from memedit.workflows.open import load_base

    memory, settings = session.memory(), session.settings
    with session.output.progress("asking") as progress:
        found = run(
            memory,
            load_base(settings.model),
            version_store(memory, versions),
            name_files([data], [])[0],
            queries=queries,
            pairs=pairs,
            scope=settings.scope.name,
            adapter=settings.adapter.name,
            seed=seed,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "recheck", Needs.SCOPE | Needs.MODEL | Needs.ENCODER)
def recheck(
    session: "Session",
    *,
    data: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSONL rows of question, as UnKE's.")],
    rows: Annotated[int, typer.Option(min=2, help="Questions that are asked at first.")] = 300,
    policy: Annotated[str, typer.Option(help="sentence, or a number of tokens.")] = "sentence",
    new_tokens: Annotated[int, typer.Option(min=16, help="Length of an answer.")] = 96,
    seed: Seed = 0,
) -> None:
    """Store other values of what the model's own long answers come to, and ask again with re-check and without."""
    from memedit.bench.recheck import run

    model = session.model(session.memory(":memory:"))
    with session.output.progress("answering") as progress:
        found = run(model, data, rows=rows, policy=policy, new_tokens=new_tokens, seed=seed, progress=progress)
    emit_rows(session.output, found)


def emit_rows(output: Output, found: Mapping[str, Any]) -> None:
    """Print a benchmark's figures without its rows, or its whole document."""
    shown = {name: value for name, value in found.items() if name != "rows"}
    output.emit(found, lambda out: out.table(["what", "value"], list(_rows(plain(shown)))))


def emit(output: Output, found: Mapping[str, Any]) -> None:
    """Print a benchmark's figures, or its document."""
    output.emit(found, lambda out: out.table(["what", "value"], list(_rows(plain(found)))))


def _rows(found: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    rows: list[list[str]] = []
    for key, value in found.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for number, item in enumerate(value):
                rows += _rows(item, f"{prefix}{key}.{number}.")
        else:
            rows.append([prefix + key, f"{value:.4g}" if isinstance(value, float) else str(value)])
    return rows


@command(app, "elder", Needs.MEMORY | Needs.TRAINING)
def elder(
    session: "Session",
    *,
    edits: Annotated[int, typer.Option(min=1, help="Edits of the memory to time.")] = 16,
) -> None:
    """Time ELDER's training of an edit beside a plain LoRA trained on one edit at a time."""
    from memedit.bench.elder import run

    memory = session.memory()
    with session.output.progress("training plain LoRAs") as progress:
        found = run(memory, model=session.settings.model.name, edits=edits, progress=progress)
    emit(session.output, found)
