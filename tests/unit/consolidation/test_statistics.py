"""Key statistics: right, resumable, kept under everything they depend on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from memedit.consolidation import Statistics, build_statistics
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.samples import own_samples
from memedit.errors import InputError
from memedit.models import LoadedModel, encode_as_data
from memedit.models.hooks import capture
from support.consolidation_bench import SETTINGS, tiny_loaded

TEXTS = ("The quick brown fox jumps over the lazy dog. " * 20, "Pack my box with five dozen liquor jugs! " * 20)


def _build(loaded: LoadedModel, store: Path, **changes: object) -> Statistics:
    return build_statistics(loaded, SETTINGS, TEXTS, store=store, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_moments_are_those_of_a_plain_pass(family: str, tmp_path: Path) -> None:
    loaded = tiny_loaded(family)
    found = _build(loaded, tmp_path)
    name = {"llama": "model.layers.1.mlp.down_proj", "gpt2": "transformer.h.1.mlp.c_proj"}[family]
    total, count = torch.zeros(48, 48, dtype=torch.float64), 0
    for text in TEXTS:
        ids = torch.tensor(encode_as_data(loaded.tokenizer, text))
        for window in ids.split(256):
            with capture(loaded.model, [name]) as seen, torch.no_grad():
                loaded.model(input_ids=window[None], use_cache=False)
            keys = seen.inputs[name][0][0, 1:].double()  # a window's first key is left out
            total, count = total + keys.T @ keys, count + len(keys)
    assert found.of(1).count == count
    torch.testing.assert_close(found.of(1).matrix(), total / count, rtol=1e-4, atol=1e-6)


def test_the_eigenbasis_is_the_matrix() -> None:
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    moments = LayerMoments.of(matrix, 7)
    torch.testing.assert_close(moments.matrix(), matrix.double())
    assert moments.scale == pytest.approx(1.5)
    assert moments.null_space(0.6).shape == (2, 1)
    with pytest.raises(InputError, match="square"):
        LayerMoments.of(torch.zeros(2, 3), 1)
    with pytest.raises(InputError, match="finite"):
        LayerMoments.of(torch.full((2, 2), float("nan")), 1)


def test_a_second_call_reads_what_the_first_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_loaded()
    first = _build(loaded, tmp_path)
    monkeypatch.setattr(type(loaded.model), "forward", None)  # any pass would fail
    again = _build(loaded, tmp_path)
    assert again.key == first.key
    assert torch.equal(again.of(0).vectors, first.of(0).vectors)


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    whole = build_statistics(loaded, SETTINGS, TEXTS * 4, store=tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop_at(limit: int) -> object:
        def progress(done: int, total: int) -> None:
            if done > limit:
                raise Stopped

        return progress

    arguments = {"store": tmp_path / "parts", "checkpoint_every": 1}
    with pytest.raises(Stopped):
        build_statistics(loaded, SETTINGS, TEXTS * 4, progress=stop_at(2500), **arguments)  # type: ignore[arg-type]
    seen: list[int] = []
    resumed = build_statistics(
        loaded,
        SETTINGS,
        TEXTS * 4,
        progress=lambda done, total: seen.append(done),
        **arguments,  # type: ignore[arg-type]
    )
    assert seen[0] > 2500  # the first batches were not run again
    assert resumed.of(1).count == whole.of(1).count
    torch.testing.assert_close(resumed.of(1).matrix(), whole.of(1).matrix(), rtol=1e-6, atol=1e-9)
    assert not list((tmp_path / "parts").rglob("partial*"))


def test_the_key_holds_all_that_counts(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    key = _build(loaded, tmp_path).key
    others = [
        build_statistics(loaded, SETTINGS, TEXTS[:1], store=tmp_path).key,
        _build(loaded, tmp_path, tokens=100).key,
        build_statistics(loaded, replace(SETTINGS, layers=(0,)), TEXTS, store=tmp_path).key,
        _build(tiny_loaded("qwen2"), tmp_path).key,
        build_statistics(loaded, SETTINGS, None, tokens=64, store=tmp_path).key,
    ]
    assert len({key, *others}) == 6
    assert build_statistics(loaded, replace(SETTINGS, l2=9.0), TEXTS, store=tmp_path).key == key


def test_damaged_files_are_built_anew(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    first = _build(loaded, tmp_path)
    file = next(tmp_path.rglob("moments.safetensors"))
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(_build(loaded, tmp_path).of(0).values, first.of(0).values)


def test_own_samples_are_seeded_and_sized() -> None:
    loaded = tiny_loaded()
    windows = own_samples(loaded, tokens=150, window=40, seed=1)
    assert sum(map(len, windows)) == 150
    assert windows == own_samples(loaded, tokens=150, window=40, seed=1)
    assert windows != own_samples(loaded, tokens=150, window=40, seed=2)
    assert not {i for row in windows for i in row} & set(loaded.tokenizer.all_special_ids)


def test_no_text_and_no_layer_are_errors(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    with pytest.raises(InputError, match="no tokens"):
        build_statistics(loaded, SETTINGS, [""], store=tmp_path)
    with pytest.raises(InputError, match="at least 2"):
        _build(loaded, tmp_path, tokens=1)
    with pytest.raises(InputError, match="not for layer 2"):
        _build(loaded, tmp_path).of(2)


def test_the_text_is_kept_with_what_was_measured_on_it(tmp_path):
    loaded = tiny_loaded()
    made = build_statistics(loaded, SETTINGS, TEXTS, store=tmp_path)
    assert loaded.tokenizer.decode([i for window in made.windows for i in window]) == "".join(TEXTS)
    kept = build_statistics(loaded, SETTINGS, TEXTS, store=tmp_path)
    assert [list(window) for window in kept.windows] == [list(window) for window in made.windows]
