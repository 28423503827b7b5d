"""Bodies of ``/v1/embeddings``."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from memedit.server.schemas.common import Out

Text = Annotated[str, Field(min_length=1)]
Token = Annotated[int, Field(ge=0)]


class EmbeddingsIn(BaseModel):
    """Texts to be turned into vectors by the memory's encoder. ``dimensions`` can only be the encoder's own."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), allow_inf_nan=False)

    input: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=2_048)]
        | Annotated[list[Token], Field(min_length=1)]
        | Annotated[list[list[Token]], Field(min_length=1)]
    )
    model: str = Field(default="", max_length=500)
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None


class EmbeddingOut(Out):
    """One vector of length 1: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Out):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsOut(Out):
    """The vectors, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[EmbeddingOut]
    model: str
    usage: EmbeddingUsage
