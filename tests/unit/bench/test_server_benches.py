"""The benchmarks of the server: what they count, on small numbers."""

from pathlib import Path

import pytest

from memedit.bench import namespaces as bench_namespaces
from memedit.bench import server as bench
from memedit.bench.load import Asked
from memedit.errors import InputError
from memedit.types import EditDraft
from support.tiny_encoder import save_tiny_encoder


def test_leaks_between_namespaces_are_counted(tmp_path: Path) -> None:
    encoder = str(save_tiny_encoder(tmp_path / "encoder"))
    found = bench_namespaces.run(queries=300, namespaces=4, subjects=8, encoder=encoder, scope="subject")
    assert (found["queries"], found["leaks"]) == (300, 0)
    assert found["considered"] > 300
    assert found["fired"] > 20
    with pytest.raises(InputError):
        bench_namespaces.run(queries=1, namespaces=1)


def test_figures_are_medians_of_rounds_and_percentiles_of_requests() -> None:
    bare = [bench._Timed(100, 10.0, 8.0), bench._Timed(100, 5.0, 8.0), bench._Timed(100, 4.0, 8.0)]
    served = [bench._Timed(100, 10.0, 10.0), bench._Timed(100, 10.0, 4.0), bench._Timed(100, 4.0, 8.0)]
    asked = [Asked(first=i / 100, total=1.0, tokens=3, edits=i % 2) for i in range(100)]
    found = bench._figures(8, bare, served, asked)
    assert found["ratio"] == 1.0
    assert found["ratio_by_processor_time"] == 1.0
    assert found["tokens_per_second"] == 10.0
    assert found["first_token_seconds"] == pytest.approx({"p50": 0.495, "p95": 0.95, "p99": 0.99, "max": 0.99})
    assert (found["requests"], found["edited_requests"]) == (100, 50)


def test_the_share_of_edited_prompts_is_about_what_was_asked_for() -> None:
    facts = [EditDraft(f"The capital of {i} is", "x") for i in range(10)]
    assert not any("capital" in prompt for prompt in bench._prompts(facts, 200, 0.0, 0))
    share = sum("capital" in prompt for prompt in bench._prompts(facts, 200, 0.5, 0)) / 200
    assert 0.4 < share < 0.6
    with pytest.raises(InputError):
        bench.run(clients=(0,))


def test_the_pacing_upstream_answers_whole_and_in_a_stream() -> None:
    from starlette.testclient import TestClient

    from memedit.bench.mock_upstream import WORDS, pacing_app

    with TestClient(pacing_app(0.0)) as client:
        whole = client.post("/v1/chat/completions", json={"messages": []}).json()
        assert whole["choices"][0]["message"]["content"] == "".join(WORDS)
        streamed = client.post("/v1/chat/completions", json={"messages": [], "stream": True}).text
    assert streamed.count("data: {") == len(WORDS) + 2
    assert streamed.endswith("data: [DONE]\n\n")
