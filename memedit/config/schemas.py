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


class EvalConfig(Section):
    """One evaluation run: what ``memedit eval --config`` starts from; options on the command line win."""

    data: tuple[Name, ...] = Field(default=(), description="data files; none leaves them to the command line")
    format: tuple[Name, ...] = Field(default=(), description="form of the data: one for all files, or one for each")
    methods: tuple[Name, ...] = Field(default=("in_context",), min_length=1)
    protocols: tuple[Name, ...] = Field(default=("generate",), min_length=1, description="generate, teacher_forced")
    edits: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(), description="numbers of edits; none takes all")
    queries: int | None = Field(default=None, ge=1, description="cases asked about; None asks about all")
    stream: Name = Field(default="batch", description="batch, or sequential:SIZE")
    seed: int = Field(default=0, ge=0)
    held_out: bool = Field(default=False, description="only rows that no shipped weights were trained on")
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
