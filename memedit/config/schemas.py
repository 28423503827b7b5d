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
    """One evaluation run: what is measured on which data, under which protocol."""

    dataset: Name
    path: str | None = Field(default=None, description="file or folder of the data set; None looks in the usual places")
    edits: int | None = Field(default=None, ge=1, description="edits in memory at once; None takes every row")
    offset: int = Field(default=0, description="first row; negative counts from the end")
    protocols: tuple[Name, ...] = Field(default=(), description="names of protocols; none takes the runner's own")
    metrics: tuple[Name, ...] = Field(default=(), description="names of metrics; none takes all")
    settings: dict[str, int | None] = Field(default_factory=dict, description="fields of the runner's EvalSettings")
    model: ModelConfig = Field(default_factory=ModelConfig)
    scope: ScopeConfig = Field(default_factory=ScopeConfig)
    adapter: AdapterConfig = Field(default_factory=AdapterConfig)

    @field_validator("metrics", "protocols")
    @classmethod
    def _no_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a name is given twice")
        return value
