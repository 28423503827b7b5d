"""Vectors of texts for OpenAI's client."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from memedit.memory import EditMemory
from memedit.server.embedding import Embedder
from memedit.server.problems import ApiError
from memedit.types import Encoding
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer


@pytest.fixture
def official(shared_server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="none", max_retries=0)


def test_vectors_are_the_encoders_in_order_in_both_forms(official: openai.OpenAI) -> None:
    texts = [f"text number {number}, öäü" for number in range(40)]
    wanted = HashingEncoder(64).encode(texts)
    for form in ("float", "base64", None):  # the client itself asks for base64 when nothing is said
        options: dict[str, Any] = {} if form is None else {"encoding_format": form}
        found = official.embeddings.create(input=texts, model="hashing64", **options)
        assert [one.index for one in found.data] == list(range(40))
        data = [one.embedding for one in found.data]
        if form == "base64":
            data = [np.frombuffer(base64.b64decode(one), "<f4") for one in data]  # type: ignore[arg-type,misc]
        np.testing.assert_allclose(np.array(data), wanted, atol=1e-6)
        assert found.usage.prompt_tokens == found.usage.total_tokens > 40
        assert found.model == "hashing64"
    (one,) = official.embeddings.create(input=texts[3], model="", dimensions=64).data
    np.testing.assert_allclose(one.embedding, wanted[3], atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["a", ""]}, 400, "input"),
        ({"input": ["a"] * 2049}, 400, "input"),
        ({"input": [5, 6]}, 400, "input"),
        ({"input": [[5, 6]]}, 400, "input"),
        ({"input": "a", "dimensions": 3}, 400, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "a", "model": "text-embedding-3-small"}, 404, "model"),
        ({}, 400, "input"),
    ],
)
def test_what_cannot_be_embedded_is_refused(client: httpx.Client, body: Any, status: int, param: str) -> None:
    response = client.post("/v1/embeddings", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param), response.text


def test_no_unicode_is_refused(client: httpx.Client) -> None:
    sent = client.post("/v1/embeddings", content=b'{"input": "\\ud800"}', headers={"Content-Type": "application/json"})
    assert (sent.status_code, sent.json()["error"]["code"]) == (400, "invalid_request"), sent.text


class Short(HashingEncoder):
    """Reads twelve words."""

    max_tokens = 12

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 64) -> list[Encoding]:
        found = super().encode_tokens([" ".join(text.split()[:12]) for text in texts], batch_size=batch_size)
        return [replace(encoding, text=text) for encoding, text in zip(found, texts, strict=True)]


def test_a_text_that_the_encoder_would_cut_is_refused() -> None:
    with EditMemory(encoder=Short(8)) as memory:
        embedder = Embedder(memory)
        vectors, tokens = asyncio.run(embedder.embed("me", ["a b", "c " * 12]))
        assert (vectors.shape, tokens) == ((2, 8), 14)
        with pytest.raises(ApiError, match="input 17 is longer than the 12 tokens") as refused:
            asyncio.run(embedder.embed("me", [*["a b"] * 17, "c " * 13]))
        assert (refused.value.status, refused.value.code) == (400, "context_length_exceeded")
        embedder.close()
