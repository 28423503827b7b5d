"""What a configuration file may hold: one schema for each ``kind``."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Dtype = Literal["float32", "float16", "bfloat16", "auto"]
Name = Annotated[str, Field(min_length=1, max_length=500)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Options = dict[str, Any]


class Section(BaseModel):
    """Base of all schemas: unknown keys are errors, values are frozen, numbers are not read from strings like "yes"."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class ModelConfig(Section):
    """A language model: ``name`` is an alias, a folder or a hub id."""

    name: Name = "smollm2-135m-instruct"
    revision: str | None = None
    dtype: Dtype = "float32"
    device: Name = "cpu"
    device_map: str | None = None
    options: Options = Field(default_factory=dict, description="further arguments of from_pretrained")


class ScopeConfig(Section):
    """Which edits a query falls under: ``threshold`` None means the one that was calibrated or shipped."""

    name: Name = "default"
    threshold: Fraction | None = None
    candidates: int = Field(default=8, ge=1, le=1000, description="edits looked at for each query")
    options: Options = Field(default_factory=dict)


class AdapterConfig(Section):
    """How a matched edit changes the answer."""

    name: Name = "default"
    options: Options = Field(default_factory=dict)


class GateConfig(Section):
    """Where a gate begins to warn and where it fails."""

    warn: float
    fail: float


class ScheduleConfig(Section):
    """When to consolidate by itself; any one of the conditions is enough."""

    every_edits: int | None = Field(default=None, ge=1, description="so many edits wait")
    max_age_hours: float | None = Field(default=None, gt=0, description="an edit has waited so long")
    cron: str | None = Field(default=None, description='five fields, in UTC: "0 3 * * *"')
    poll_seconds: float = Field(default=60.0, gt=0, description="how often to look")


class ProbesConfig(Section):
    """What the gates measure with; what is left out comes with memedit or from the model itself."""

    specificity: str | None = Field(default=None, description="JSONL of prompts, or a data file of a published form")
    perplexity: str | None = Field(default=None, description="plain text")
    capability: str | None = Field(default=None, description="capability file, or a folder of them")
    canaries: str | None = Field(default=None, description="JSONL of prompts with what their answers must hold")


class ConsolidationConfig(Section):
    """One consolidation job: what ``memedit consolidate --config`` starts from; options on the command line win."""

    method: Name = "alphaedit"
    filter: dict[str, str] = Field(default_factory=dict, description="only new edits with this metadata")
    solver: Options = Field(default_factory=dict, description="settings of targets and solve, by name")
    limits: dict[str, GateConfig] = Field(default_factory=dict, description="limits of the gates, by name")
    significance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    probes: ProbesConfig = Field(default_factory=ProbesConfig)
    check: Literal["prefix", "exact", "contains"] = "prefix"
    chat: bool = Field(default=True, description="also ask every edit as a chat turn")
    closing: bool = Field(default=False, description="also teach the answer to end")
    scope: Literal["gated", "always"] = Field(default="gated", description="rows that meet the version's weights")
    wordings: int = Field(default=8, ge=0, description="generated wordings that each edit is asked in")
    least_right: Annotated[float, Field(gt=0, le=1)] = 1.0
    rounds: int = Field(default=2, ge=1)
    prompt_tokens: int = Field(default=256, ge=1, description="edits with longer prompts stay in the memory")
    target_tokens: int = Field(default=32, ge=1, description="so do edits with longer targets")
    statistics_text: str | None = Field(default=None, description="plain text; none lets the model write its own")
    statistics_tokens: int = Field(default=100_000, ge=2)
    specificity_probes: int = Field(default=200, ge=1)
    perplexity_tokens: int = Field(default=2048, ge=16)
    collapse_sentences: int = Field(default=50, ge=0, description="sentences of the collapse gate; 0 leaves it out")
    shattering: bool = Field(default=True, description="compare distances between entities with random changes")
    capability_questions: int = Field(default=100, ge=1)
    batch_size: int = Field(default=32, ge=1)
    publish_on: tuple[Literal["PASS", "WARN", "INCONCLUSIVE"], ...] = ("PASS", "WARN")
    lora: bool = Field(default=False, description="also write the change as a PEFT LoRA where it is narrow")
    lora_rank: int = Field(default=64, ge=1)
    keep: int = Field(default=5, ge=1, description="versions kept besides those with an alias")
    versions: str | None = Field(default=None, description="folder of the versions; none is beside the memory's file")
    schedule: ScheduleConfig | None = None


class ElderPolicy(Section):
    """When edits that wait for ELDER are due for a training pass."""

    waiting: int = Field(default=100, ge=1, description="so many waiting edits make a pass due")
    hours: float = Field(default=24.0, gt=0.0, description="so does an edit that has waited this long")
    out: Name = Field(default="runs/elder", description="folder of the mixtures")


class EvalConfig(Section):
    """One evaluation run: what ``memedit eval --config`` starts from; options on the command line win."""

    data: tuple[Name, ...] = Field(default=(), description="data files; none leaves them to the command line")
    format: tuple[Name, ...] = Field(default=(), description="form of the data: one for all files, or one for each")
    methods: tuple[Name, ...] = Field(default=("in_context",), min_length=1)
    protocols: tuple[Name, ...] = Field(default=("generate",), min_length=1, description="generate, teacher_forced")
    edits: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(), description="numbers of edits; none takes all")
    queries: int | None = Field(default=None, ge=1, description="cases asked about; None asks about all")
    rows: tuple[Name, ...] = Field(default=(), description="further rows: relations, perplexingness, collapse ...")
    stream: Name = Field(default="batch", description="batch, or sequential:SIZE")
    seed: int = Field(default=0, ge=0)
    held_out: bool = Field(default=False, description="only rows that no shipped weights were trained on")
    baselines: bool = Field(default=True, description="rag and oracle in the table too")
    batch_size: int = Field(default=64, ge=1)
    probes_per_kind: int | None = Field(default=None, ge=1)
    fluency_queries: int = Field(default=16, ge=0)
    perplexity: str | None = Field(default=None, description="text to take the perplexity of")
    capability: str | None = Field(default=None, description="capability file, or a folder of them")
    capability_questions: int = Field(default=100, ge=1)
    out: Name = Field(default="runs/eval", description="folder of the report")
    encoder: Name = "minilm"
    model: ModelConfig = Field(default_factory=ModelConfig)
    scope: ScopeConfig = Field(default_factory=ScopeConfig)

    @field_validator("data", "methods", "protocols", "edits")
    @classmethod
    def _no_repeats(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a value is given twice")
        return value
