"""``memedit eval``: methods side by side, the data-set suite, and the scope laboratory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.eval_answers import register
from memedit.cli.eval_config import EvalConfigFile
from memedit.cli.files import file_or_shipped
from memedit.cli.options import Needs, command, key_values
from memedit.cli.output import LogLine, Output, duration

if TYPE_CHECKING:
    from memedit.cli.session import Session

app = typer.Typer(
    help="Evaluate methods on the same model, data and protocol; see also 'suite', 'scope' and 'passages'.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
register(app)

Data = Annotated[list[Path] | None, typer.Option("--data", help="Data file; give it again for more.")]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help="Form of the data: counterfact, zsre, wikibigedit, knowedit, qaedit, mquake, unke, wikibio, auto. "
        "Once for all files, or once for each.",
    ),
]
Model = Annotated[str, typer.Option("--model", envvar="MEMEDIT_MODEL__NAME", help="Base model: alias, path or hub id.")]
Methods = Annotated[
    str,
    typer.Option(
        "--method",
        help="Comma-separated: base, rag, oracle, any adapter (in_context, reader, recipe, serac, elder, mend, "
        "neurons, grace), wise, memoir, weights:rome|memit|alphaedit|rect|prune|ultraedit|kne|kne_random, hybrid. The "
        "first three are in the table unnamed.",
    ),
]
Baselines = Annotated[
    bool, typer.Option(help="Put rag and oracle into the table; their long prompts take most of the time.")
]
Edits = Annotated[
    str, typer.Option("--edits", help="Number of edits from the start of the file, or several: 100,1000.")
]
NumberOfQueries = Annotated[
    int | None, typer.Option("--queries", min=1, help="Draw so many cases to ask about, with all edits in memory.")
]
Protocols = Annotated[str, typer.Option("--protocol", help="generate, teacher_forced, or both with a comma.")]
Stream = Annotated[str, typer.Option("--stream", help="How edits arrive: batch, or sequential:SIZE.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw and of the resampling.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of the report.")]
Json = Annotated[bool, typer.Option("--json", help="Print results.json on stdout.")]
ScopeName = Annotated[str, typer.Option("--scope", help="What decides whether an edit applies.")]
Threshold = Annotated[float | None, typer.Option("--threshold", help="Scope threshold, in place of the scope's own.")]
HeldOut = Annotated[
    bool, typer.Option("--held-out", help="Ask only about rows that no shipped weights were trained on.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Rows in one batch.")]
Perplexity = Annotated[Path | None, typer.Option("--perplexity", help="Text to take the perplexity of.")]
Capability = Annotated[Path | None, typer.Option("--capability", help="Capability file, or a folder of them.")]
Questions = Annotated[int, typer.Option("--capability-questions", min=1, help="At most so many of each file.")]
Fluency = Annotated[int, typer.Option("--fluency-queries", min=0, help="Free continuations for fluency; 0 for none.")]
PerKind = Annotated[
    int | None, typer.Option("--probes-per-kind", min=1, help="At most so many probes of a kind from one case.")
]
RowNames = Annotated[
    str,
    typer.Option(
        "--rows",
        help="Comma-separated further rows: relations, perplexingness, collapse, shattering, leak, propagation.",
    ),
]
Samples = Annotated[int, typer.Option("--samples", min=1, help="Continuations of a prompt that the row leak samples.")]
Forget = Annotated[
    bool, typer.Option("--forget", help="Make every edit a refusal: its old answer is to be said no more.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Compute base outputs anew.")]
Harness = Annotated[
    str | None,
    typer.Option("--lm-eval", help="Comma-separated tasks of the evaluation harness (pip install 'memedit[eval]')."),
]
HarnessFolder = Annotated[Path | None, typer.Option("--lm-eval-folder", help="Folder with more such tasks as YAML.")]
HarnessLimit = Annotated[int | None, typer.Option("--lm-eval-limit", min=1, help="At most so many documents of each.")]
Consolidation = Annotated[
    Path | None,
    typer.Option(
        parser=file_or_shipped("configs"),
        metavar="FILE",
        help="How weights: methods and hybrid write edits into the weights: YAML of kind consolidation.",
    ),
]
Trained = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        metavar="ADAPTER=FOLDER",
        help="Weights that you trained, in place of the shipped ones, as reader=runs/reader; repeatable.",
    ),
]
EncoderName = Annotated[str, typer.Option("--encoder", help="Sentence encoder.")]
DType = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16, auto.")]


@app.callback()
def run(
    ctx: typer.Context,
    *,
    config: EvalConfigFile = None,
    data: Data = None,
    format: Formats = None,
    model: Model = "smollm2",
    method: Methods = "in_context",
    baselines: Baselines = True,
    edits: Edits = "all",
    queries: NumberOfQueries = None,
    protocol: Protocols = "generate",
    stream: Stream = "batch",
    seed: Seed = 0,
    out: Out = Path("runs/eval"),
    json: Json = False,
    scope: ScopeName = "default",
    threshold: Threshold = None,
    held_out: HeldOut = False,
    batch_size: BatchSize = 64,
    perplexity: Perplexity = None,
    capability: Capability = None,
    capability_questions: Questions = 100,
    lm_eval: Harness = None,
    lm_eval_folder: HarnessFolder = None,
    lm_eval_limit: HarnessLimit = None,
    fluency_queries: Fluency = 16,
    probes_per_kind: PerKind = None,
    no_cache: NoCache = False,
    rows: RowNames = "",
    samples: Samples = 20,
    forget: Forget = False,
    consolidation: Consolidation = None,
    weights: Trained = None,
    encoder: EncoderName = "minilm",
    dtype: DType = "float32",
) -> None:
    """Evaluate methods on data files: results.json, manifest.json and report.html in --out, a table here."""
    if ctx.invoked_subcommand is not None:
        return
    from memedit.evaluation.datasets import name_files
    from memedit.evaluation.settings import EvalSettings

    settings = EvalSettings(
        seed=seed,
        batch_size=batch_size,
        capability_questions=capability_questions,
        fluency_queries=fluency_queries,
        probes_per_kind=probes_per_kind,
        samples=samples,
    )
    options = {
        "rows": tuple(name.strip() for name in rows.split(",") if name.strip()), "forget": forget,
        "model": model, "queries": queries, "scope": scope, "threshold": threshold, "held_out": held_out,
        "baselines": baselines, "perplexity": perplexity, "capability": capability, "settings": settings,
        "encoder": encoder, "dtype": dtype,
        "trained": {name: Path(folder) for name, folder in key_values("--weights", weights).items()},
        **_parsed(method, edits, protocol, stream),
    }  # fmt: skip
    if consolidation is not None:
        from memedit.workflows.consolidate.configuring import read_evaluation_job

        options["consolidation"] = read_evaluation_job(consolidation)
    if lm_eval is not None:
        from memedit.workflows.evaluate.lm_eval_tasks import HarnessTasks

        names = tuple(name.strip() for name in lm_eval.split(",") if name.strip())
        options["harness"] = HarnessTasks(names, lm_eval_folder, lm_eval_limit)
    files = name_files(data or [], format or [])
    _evaluate(files, options, out, json_mode=json, use_cache=not no_cache)


@app.command()
def suite(
    data: Annotated[Path, typer.Argument(help="Folder of data files; the form of each is told from its fields.")],
    *,
    model: Model = "smollm2",
    method: Methods = "in_context",
    edits: Edits = "1000",
    queries: NumberOfQueries = 50,
    protocol: Protocols = "generate",
    stream: Stream = "batch",
    seed: Seed = 0,
    out: Out = Path("runs/suite"),
    json: Json = False,
    scope: ScopeName = "default",
    held_out: HeldOut = False,
    probes_per_kind: PerKind = 1,
    fluency_queries: Fluency = 8,
    no_cache: NoCache = False,
) -> None:
    """Evaluate methods on every data set of a folder: so many edits each, a sample of them asked about."""
    from memedit.evaluation.settings import EvalSettings
    from memedit.workflows.evaluate.suite import suite_files

    settings = EvalSettings(seed=seed, probes_per_kind=probes_per_kind, fluency_queries=fluency_queries)
    options = {
        "model": model, "queries": queries, "scope": scope, "held_out": held_out, "settings": settings,
        **_parsed(method, edits, protocol, stream),
    }  # fmt: skip
    _evaluate(suite_files(data), options, out, json_mode=json, use_cache=not no_cache)


@app.command()
def scope(
    files: Annotated[
        list[Path] | None,
        typer.Argument(exists=True, dir_okay=False, metavar="[FILE]...", help="Files of asks, talks or relations."),
    ] = None,
    *,
    data: Data = None,
    format: Formats = None,
    scope: Annotated[str, typer.Option("--scope", help="Comma-separated scopes.")] = "similarity,subject,default",
    edits: Annotated[int | None, typer.Option("--edits", min=1, help="Number of edits from each file.")] = None,
    queries: NumberOfQueries = None,
    seed: Seed = 0,
    out: Out = Path("runs/scope"),
    json: Json = False,
    held_out: HeldOut = False,
    encoder: EncoderName = "minilm",
) -> None:
    """Ask a scope the questions of FILEs, or sweep scopes' thresholds over data sets (--data). Needs no model."""
    from memedit.evaluation.datasets import name_files
    from memedit.evaluation.report.terminal import scope_table
    from memedit.workflows.evaluate.scope import run_laboratory

    output = Output(json_mode=json)
    if files:
        _asks(output, files, out, scope=scope.split(",")[-1].strip(), limit=queries, seed=seed, encoder=encoder)
        return
    names = tuple(name.strip() for name in scope.split(",") if name.strip())
    with output.progress("scoring queries") as progress:
        laboratory = run_laboratory(
            tuple(name_files(data or [], format or [])), names, out,
            edits=edits, queries=queries, seed=seed, held_out=held_out, encoder=encoder, progress=progress,
        )  # fmt: skip
    output.emit(laboratory, lambda o: o.console.print(scope_table(laboratory), soft_wrap=False))
    output.note(f"report: {out / 'scope.html'}")


def _asks(output: Output, files: list[Path], out: Path, **options: Any) -> None:
    """Report on files of asks."""
    from memedit.evaluation.report.terminal import asks_table
    from memedit.workflows.evaluate.asks import run_asks

    with output.progress("asking") as progress:
        report = run_asks(files, out, progress=progress, **options)
    output.emit(report, lambda o: o.console.print(asks_table(report), soft_wrap=False))
    output.note(f"report, with the fifty worst: {out / 'asks.html'}")


@command(app, "hops", Needs.SCOPE | Needs.MODEL | Needs.ENCODER | Needs.CHAINS)
def hops(
    session: "Session",
    *,
    data: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="MQuAKE-CF's rows.")],
    cases: Annotated[int | None, typer.Option(min=1, help="The first so many cases. [default: all]")] = None,
    edits_only: Annotated[
        bool, typer.Option("--edits-only", help="Store the edits alone; the other hops are the model's.")
    ] = False,
    fill: Annotated[
        str | None, typer.Option(metavar="FILE[:N]", help="Put (N) edits of a data file into the memory first.")
    ] = None,
) -> None:
    """Ask MQuAKE's cases from one shared memory: by case and hop by hop, or beside the base's ceiling.

    Questions are looked up along chains unless --chains says otherwise.
    """
    from memedit.bench.hops import read_cases, run
    from memedit.cli.figures import emit_rows

    policy = session.settings.chains if "chains" in session.settings.model_fields_set else "on"
    rows = read_cases(data)[:cases]
    model = session.model(session.memory(":memory:"), chains=policy)
    with session.output.progress("asking") as progress:
        found = run(model, rows, edits_only=edits_only, fill=fill, progress=progress)
    emit_rows(session.output, found)


@app.command()
def conflicts(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, metavar="FILE...", help="Inventory files.")
    ],
    *,
    facts: Annotated[int, typer.Option(min=1, help="True facts stored in one go.")] = 2000,
    contradictions: Annotated[int, typer.Option(min=1, help="Facts contradicted afterwards, in other words.")] = 500,
    seed: Seed = 0,
    json: Json = False,
    encoder: EncoderName = "minilm",
) -> None:
    """Store true facts about shared subjects with `supersede`, contradict some: what is found, and what is lost."""
    from memedit.evaluation.report.terminal import conflicts_table
    from memedit.workflows.evaluate.conflicts import run_conflicts

    output = Output(json_mode=json)
    with output.progress("adding facts") as progress:
        report = run_conflicts(
            files, facts=facts, contradictions=contradictions, seed=seed, encoder=encoder, progress=progress
        )
    output.emit(report, lambda o: o.console.print(conflicts_table(report), soft_wrap=False))


@app.command()
def passages(
    *,
    data: Annotated[Path, typer.Option("--data", help="Data file: the edits, and the questions to plant.")],
    text: Annotated[Path, typer.Option("--text", help="Text that the passages are cut from.")],
    format: Annotated[str, typer.Option("--format", help="Form of the data.")] = "auto",
    edits: Annotated[int | None, typer.Option("--edits", min=1, help="Number of edits from the file.")] = None,
    queries: Annotated[int, typer.Option("--queries", min=1, help="Questions that are planted.")] = 100,
    count: Annotated[int, typer.Option("--passages", min=1, help="Passages that ask nothing.")] = 400,
    words: Annotated[int, typer.Option("--words", min=1, help="Words in a passage.")] = 256,
    scope: ScopeName = "default",
    seed: Seed = 0,
    json: Json = False,
    held_out: HeldOut = False,
    encoder: EncoderName = "minilm",
) -> None:
    """Look running text up: how often edits fire where nothing is asked, and on questions planted in it."""
    from memedit.evaluation.datasets import name_files
    from memedit.evaluation.report.terminal import passages_table
    from memedit.workflows.evaluate.passages import run_passages

    output = Output(json_mode=json)
    with output.progress("looking passages up") as progress:
        found = run_passages(
            name_files([data], [format])[0], text, edits=edits, queries=queries, passages=count, words=words,
            scope=scope, held_out=held_out, seed=seed, encoder=encoder, progress=progress,
        )  # fmt: skip
    output.emit(found, lambda o: o.console.print(passages_table(found), soft_wrap=False))


def _parsed(method: str, edits: str, protocol: str, stream: str) -> dict[str, Any]:
    """Read the options that are lists or small languages of their own."""
    from memedit.errors import InputError, UnknownNameError
    from memedit.evaluation.protocols import Protocol
    from memedit.evaluation.stream import StreamOrder
    from memedit.registry import unknown_name_message

    counts: list[int | None] = []
    for part in edits.split(","):
        text = part.strip()
        if text != "all" and not (text.isdecimal() and int(text) > 0):
            raise InputError(f"--edits {edits!r}: give a number of at least 1, several with commas, or 'all'")
        counts.append(None if text == "all" else int(text))
    protocols = []
    for part in protocol.split(","):
        if part.strip() not in list(Protocol):
            raise UnknownNameError(unknown_name_message("protocol", part.strip(), [str(p) for p in Protocol]))
        protocols.append(Protocol(part.strip()))
    methods = tuple(name.strip() for name in method.split(",") if name.strip())
    return {
        "methods": methods,
        "edits": tuple(dict.fromkeys(counts)),
        "protocols": tuple(dict.fromkeys(protocols)),
        "stream": StreamOrder.parse(stream),
    }


def _evaluate(files: list[Any], options: dict[str, Any], out: Path, *, json_mode: bool, use_cache: bool) -> None:
    from memedit.evaluation.report.row_findings import findings_tables
    from memedit.evaluation.report.terminal import results_tables
    from memedit.evaluation.results import results_json
    from memedit.workflows.evaluate import EvaluationConfig, evaluate

    output = Output(json_mode=json_mode)
    config = EvaluationConfig(data=tuple(files), **options)
    with _Bar(output) as bar:
        outcome = evaluate(config, out, progress=bar, use_cache=use_cache)

    def human(shown: Output) -> None:
        for table in results_tables(outcome.rows):
            shown.console.print(table, soft_wrap=False)
        for table in findings_tables(outcome.runs):
            shown.console.print(table, soft_wrap=False)

    output.emit(results_json(outcome.rows), human)
    output.note(f"report: {out / 'report.html'}")


class _Bar:
    """One line on stderr: what is being done, how far, and the time left for all of it."""

    def __init__(self, output: Output) -> None:
        from rich.console import Console
        from rich.status import Status

        self._console: Console = output.errors
        self._status = Status("starting", console=self._console)
        self._log, self._last = LogLine(self._console), ""

    def __enter__(self) -> "_Bar":
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def __call__(self, progress: Any) -> None:
        of = " in all" if progress.whole else ""
        left = "" if progress.eta_seconds is None else f", about {duration(progress.eta_seconds)} left{of}"
        if self._console.is_terminal:
            self._status.update(f"{progress.unit}: {progress.done}/{progress.total}{left}")
        elif progress.done == progress.total and progress.unit != self._last:
            self._last = progress.unit  # a log gets one line for each piece of work, not one for each batch
            self._console.print(f"{progress.unit}: {progress.total} done{left}")
        else:
            self._log.progress(progress.unit, progress.done, progress.total)
