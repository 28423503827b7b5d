"""The settings of a memedit process."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from memedit.config.schemas import AdapterConfig, ElderPolicy, ModelConfig, Name, ScopeConfig
from memedit.types import ChainPolicy

ENV_PREFIX = "MEMEDIT_"


class Settings(BaseSettings):
    """What a command or server works with.

    Each field can be set by an environment variable, ``MEMEDIT_`` and its name in capitals; fields of the nested parts
    after two underscores (``MEMEDIT_MODEL__DTYPE=bfloat16``). Arguments win over the environment, the environment over
    the file, the file over these defaults.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
        protected_namespaces=(),
    )

    memory: Name = Field(default="edits.db", description="path of a SQLite file, :memory:, or a database URL")
    namespace: Name = Field(default="default", description="edits of other namespaces are never seen")
    encoder: Name = Field(default="minilm", description="alias, folder or sentence-transformers id")
    index: Name = Field(default="flat", description="kind of vector index: flat, hnsw, ivf, exact, gpu, pgvector")
    model: ModelConfig = Field(default_factory=ModelConfig)
    scope: ScopeConfig = Field(default_factory=ScopeConfig)
    chains: ChainPolicy = Field(default="off", description="look questions up along chains of edits: off, on, auto")
    recheck: str = Field(
        default="off", description="look up answers while they are written: off, sentence, or a number of tokens"
    )
    adapter: AdapterConfig = Field(default_factory=AdapterConfig)
    elder: ElderPolicy = Field(default_factory=ElderPolicy)
    home: Path = Field(default=Path("~/.cache/memedit"), description="where converted models and caches lie")

    @field_validator("memory", "namespace")
    @classmethod
    def _printable(cls, value: str) -> str:
        if any(ord(c) < 32 for c in value):
            raise ValueError("holds a control character")
        return value
