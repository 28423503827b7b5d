"""What an evaluation is to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from memedit.evaluation.datasets import DataFile
from memedit.evaluation.protocols import Protocol
from memedit.evaluation.settings import EvalSettings
from memedit.evaluation.stream import StreamOrder
from memedit.workflows.consolidate.settings import JobSettings, evaluation_job
from memedit.workflows.evaluate.lm_eval_tasks import HarnessTasks


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """What to evaluate.

    Args:
        data: data files, see :func:`memedit.evaluation.datasets.name_files`.
        methods: names, see :func:`~memedit.workflows.evaluate.methods.known_methods`; the base is always added.
        model: alias, path or hub id of the base model.
        edits: numbers of edits from the start of each file, one table for each; None takes the whole file.
        queries: so many cases are drawn to be asked about while all edits are in memory; None asks all.
        protocols: how answers are taken.
        stream: how edits arrive.
        scope: scope of the memory methods that do not bring their own.
        threshold: scope threshold; None is the scope's own.
        encoder: sentence encoder.
        dtype: of the base model.
        held_out: ask only about rows that the shipped weights were not trained on
            (:func:`memedit.evaluation.datasets.splits.is_training_row`).
        baselines: add ``rag`` and ``oracle`` too, whose long prompts take most of the time.
        perplexity: a text to take the perplexity of under each method.
        capability: a capability file, or a folder of them.
        consolidation: how ``weights:`` methods and ``hybrid`` write edits into the weights; the solver is named by the
            method.
        trained: folders of trained weights by the adapter that takes them, in place of the shipped ones.
        harness: tasks of the language model evaluation harness (extra ``eval``).
        rows: further rows of evaluation (:data:`memedit.evaluation.rows.ROWS`).
        forget: make every edit a refusal, so that its old answer is to be forgotten.
        settings: everything else that changes results.
    """

    data: tuple[DataFile, ...]
    methods: tuple[str, ...]
    model: str = "smollm2"
    edits: tuple[int | None, ...] = (None,)
    queries: int | None = None
    protocols: tuple[Protocol, ...] = (Protocol.GENERATE,)
    stream: StreamOrder = field(default_factory=StreamOrder)
    scope: str = "default"
    threshold: float | None = None
    encoder: str = "minilm"
    dtype: str = "float32"
    held_out: bool = False
    baselines: bool = True
    perplexity: Path | None = None
    capability: Path | None = None
    trained: Mapping[str, Path] = field(default_factory=dict)
    harness: HarnessTasks | None = None
    consolidation: JobSettings = field(default_factory=evaluation_job)
    rows: tuple[str, ...] = ()
    forget: bool = False
    settings: EvalSettings = field(default_factory=EvalSettings)
