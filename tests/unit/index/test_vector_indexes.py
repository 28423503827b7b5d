"""Every kind of vector index against the exact one, on disk and off, through adds, replacements and removals."""

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.errors import (
    IndexCorruptError,
    InputError,
    UnknownNameError,
    VectorIndexError,
)
from memedit.index import INDEXES, VectorIndex, create_index, load_index, read_manifest
from memedit.index.common import BaseIndex

WIDTH = 8
# Options under which even the approximate kinds look at every vector, structure and all, so that results must be equal.
THOROUGH: dict[str, dict[str, Any]] = {
    "exact": {},
    "flat": {},
    "ivf": {"probes": 1.0, "rescore": 5000, "exact_below": 64},
    "hnsw": {"ef_search": 2000, "exact_below": 64},
    "gpu": {"device": "cpu", "exact_below": 64},
}
KINDS = sorted(THOROUGH)


def unit(rng: np.random.Generator, n: int, width: int = WIDTH) -> np.ndarray:
    rows = rng.standard_normal((n, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ids_of(values: Sequence[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def filled(kind: str, n: int, width: int = WIDTH, **options: Any) -> BaseIndex:
    index = create_index(kind, width, **{**THOROUGH[kind], **options})
    index.add(np.arange(n), unit(np.random.default_rng(0), n, width))
    return index


def assert_alike(found: BaseIndex, reference: BaseIndex, queries: np.ndarray, k: int) -> None:
    """Scores must be equal, and each id must carry the score that the reference gives it."""
    scores, ids = found.search(queries, k)
    expected, _ = reference.search(queries, k)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    everything, order = reference.search(queries, max(1, len(reference)))
    for row in range(len(queries)):
        of_id = dict(zip(order[row].tolist(), everything[row].tolist(), strict=True))
        live = ids[row][ids[row] >= 0].tolist()
        assert len(set(live)) == len(live) == min(k, len(reference))
        np.testing.assert_allclose(scores[row][: len(live)], [of_id[i] for i in live], atol=1e-5)


IDS = st.integers(1, 150).flatmap(lambda n: st.lists(st.integers(0, 250), min_size=n, max_size=n))
STEP = st.one_of(
    st.tuples(st.just("add"), IDS, st.integers(0, 99)),
    st.tuples(st.just("remove"), IDS, st.just(0)),
)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEP, min_size=1, max_size=8), k=st.integers(1, 70))
def test_congruence_with_the_exact_index(kind: str, steps: list[tuple[str, list[int], int]], k: int) -> None:
    index, reference = create_index(kind, WIDTH, **THOROUGH[kind]), create_index("exact", WIDTH)
    queries = unit(np.random.default_rng(1), 3)
    for what, ids, seed in steps:
        if what == "add":
            vectors = unit(np.random.default_rng(seed), len(ids))
            index.add(ids_of(ids), vectors)
            reference.add(ids_of(ids), vectors)
        else:
            assert index.remove(ids_of(ids)) == reference.remove(ids_of(ids))
        assert len(index) == len(reference)
        assert_alike(index, reference, queries, k)


@pytest.mark.parametrize(("kind", "options"), [("ivf", {"rescore": 8, "probes": 0.2}), ("hnsw", {"ef_search": 8})])
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEP, min_size=1, max_size=8), k=st.integers(1, 6))
def test_what_a_hasty_search_finds_is_alive_ordered_and_exactly_scored(
    kind: str, options: dict[str, Any], steps: list[tuple[str, list[int], int]], k: int
) -> None:
    index = create_index(kind, WIDTH, **options, exact_below=0)
    kept: dict[int, np.ndarray] = {}
    queries = unit(np.random.default_rng(1), 3)
    for what, ids, seed in steps:
        if what == "add":
            vectors = unit(np.random.default_rng(seed), len(ids))
            index.add(ids_of(ids), vectors)
            kept.update(zip(ids, vectors, strict=True))
        else:
            assert index.remove(ids_of(ids)) == len(kept.keys() & set(ids))
            kept = {id: vector for id, vector in kept.items() if id not in ids}
        for query, scores, found in zip(queries, *index.search(queries, k), strict=True):
            live = found[found >= 0].tolist()
            assert len(set(live)) == len(live) == min(k, len(kept))
            np.testing.assert_allclose(scores[: len(live)], [kept[id] @ query for id in live], atol=1e-5)
            assert (np.diff(scores[: len(live)]) <= 0).all()
            assert np.isneginf(scores[len(live) :]).all()


def test_exact_search_equals_a_sort() -> None:
    rng = np.random.default_rng(2)
    vectors, queries = unit(rng, 40), unit(rng, 5)
    index = create_index("exact", WIDTH)
    index.add(np.arange(40), vectors)
    scores, ids = index.search(queries, 7)
    products = queries @ vectors.T
    np.testing.assert_array_equal(ids, np.argsort(-products, axis=1, kind="stable")[:, :7])
    np.testing.assert_allclose(scores, np.sort(products, axis=1)[:, ::-1][:, :7], atol=1e-6)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_recall_with_default_options_on_clustered_vectors(kind: str) -> None:
    rng = np.random.default_rng(3)
    centres = unit(rng, 300, 64)
    vectors = centres[rng.integers(0, 300, 12_000)] + 0.08 * rng.standard_normal((12_000, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:200] + 0.02 * rng.standard_normal((200, 64)).astype(np.float32)
    index, reference = create_index(kind, 64, exact_below=1000), create_index("exact", 64)
    index.add(np.arange(12_000), vectors)
    reference.add(np.arange(12_000), vectors)
    expected = reference.search(queries, 10)[1]
    found = index.search(queries, 10)[1]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(expected.tolist(), found.tolist(), strict=True)])
    assert recall >= 0.97


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_tombstones_never_crowd_out_the_living(kind: str) -> None:
    # the dead are all nearer to the query than the living, and too few to be swept away by a rebuild
    rng = np.random.default_rng(4)
    index = create_index(
        kind, WIDTH, **{**THOROUGH[kind], "exact_below": 0, **({"rescore": 8} if kind == "ivf" else {"ef_search": 8})}
    )
    query = unit(rng, 1)
    near = query + 0.01 * rng.standard_normal((60, WIDTH)).astype(np.float32)
    index.add(np.arange(1000, 1060), near / np.linalg.norm(near, axis=1, keepdims=True))
    index.add(np.arange(200), unit(rng, 200))
    assert set(index.search(query, 10)[1][0].tolist()) <= set(range(1000, 1060))
    assert index.remove(np.arange(1000, 1060)) == 60
    scores, ids = index.search(query, 10)
    assert (ids >= 0).all()
    assert (ids < 200).all()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_removing_most_vectors_rebuilds_and_keeps_the_rest(kind: str) -> None:
    index = filled(kind, 600, exact_below=0)
    assert index.remove(np.arange(0, 550)) == 550
    assert index._store.used < 600  # type: ignore[attr-defined]
    reference = filled("exact", 600)
    reference.remove(np.arange(0, 550))
    assert_alike(index, reference, unit(np.random.default_rng(5), 4), 12)


def test_ivf_trains_anew_as_it_grows() -> None:
    index = create_index("ivf", WIDTH, exact_below=50, probes=1.0, rescore=5000)
    reference = create_index("exact", WIDTH)
    rng = np.random.default_rng(6)
    trained = []
    for start in range(0, 900, 30):
        vectors = unit(rng, 30)
        index.add(np.arange(start, start + 30), vectors)
        reference.add(np.arange(start, start + 30), vectors)
        trained.append(index._trained_for)  # type: ignore[attr-defined]
    assert sorted(set(trained)) == [0, 90, 360]
    assert_alike(index, reference, unit(rng, 3), 20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 5, 200])
def test_save_and_load_round_trip(tmp_path: Path, kind: str, n: int) -> None:
    index = filled(kind, n)
    index.remove(ids_of([1, 3]))
    path = tmp_path / "deep" / "index.json"
    index.save(path, {"revision": 7})
    loaded = load_index(path)
    assert (loaded.kind, loaded.dimension, len(loaded)) == (kind, WIDTH, len(index))
    assert loaded.options == index.options
    manifest = read_manifest(path)
    assert (manifest.count, manifest.metadata) == (len(index), {"revision": 7})
    queries = unit(np.random.default_rng(7), 3)
    for a, b in zip(index.search(queries, 6), loaded.search(queries, 6), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    loaded.add(ids_of([1, 900]), unit(np.random.default_rng(8), 2))
    loaded.remove(ids_of([0]))
    index.add(ids_of([1, 900]), unit(np.random.default_rng(8), 2))
    index.remove(ids_of([0]))
    assert_alike(loaded, index, queries, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_saving_again_replaces_and_leaves_no_litter(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "index.json"
    filled(kind, 5).save(path)
    filled(kind, 30).save(path)
    assert len(load_index(path)) == 30
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "append"])
def test_damage_is_detected(tmp_path: Path, kind: str, damage: str) -> None:
    path = tmp_path / "index.json"
    filled(kind, 40).save(path)
    payload = path.parent / read_manifest(path).payload
    raw = bytearray(payload.read_bytes())
    if damage == "truncate":
        payload.write_bytes(raw[: len(raw) // 2])
    elif damage == "flip":
        raw[len(raw) // 2] ^= 0xFF
        payload.write_bytes(raw)
    elif damage == "append":
        payload.write_bytes(raw + b"x")
    else:
        payload.unlink()
    with pytest.raises(IndexCorruptError, match="rebuild"):
        load_index(path)


@pytest.mark.parametrize(
    "change",
    [
        {"count": 99},
        {"dimension": 4},
        {"dimension": "x"},
        {"kind": "flatt"},
        {"kind": "hnsw"},
        {"format": 99},
        {"payload": "../elsewhere"},
        {"options": {"nonsense": 1}},
        {"unknown": 1},
    ],
)
def test_a_manifest_that_disagrees_is_detected(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "index.json"
    filled("flat", 40).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(IndexCorruptError):
        load_index(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\x00"])
def test_a_manifest_that_is_none_is_detected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(IndexCorruptError):
        load_index(path)


def test_an_absent_index_is_no_corruption(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_index(tmp_path / "index.json")


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index.json"
    filled("flat", 5).save(path)
    real = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target) == path:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(VectorIndexError, match="untouched"):
        filled("flat", 50).save(path)
    monkeypatch.undo()
    assert len(load_index(path)) == 5
    filled("flat", 7).save(path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_path_that_cannot_be_written_is_typed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(VectorIndexError, match="could not be saved"):
        filled("flat", 3).save(tmp_path / "file" / "index.json")


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_typed_and_changes_nothing(kind: str) -> None:
    index = filled(kind, 20)
    good = unit(np.random.default_rng(9), 2)
    for ids, vectors in [
        (ids_of([1]), good),
        (ids_of([-1, 2]), good),
        (ids_of([1, 2]), good[:, :4]),
        (ids_of([1, 2]), good * np.nan),
        (np.array([0.5, 1.5]), good),
        (ids_of([1, 2]), good[0]),
    ]:
        with pytest.raises(InputError):
            index.add(ids, vectors)
    with pytest.raises(InputError, match="k=0"):
        index.search(good, 0)
    with pytest.raises(InputError, match="queries"):
        index.search(good[:, :2], 1)
    assert len(index) == 20
    assert_alike(index, filled("exact", 20), good, 20)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_and_small(kind: str) -> None:
    index = filled(kind, 0)
    assert isinstance(index, VectorIndex)
    query = unit(np.random.default_rng(10), 2)
    scores, ids = index.search(query, 3)
    assert (ids == -1).all()
    assert np.isneginf(scores).all()
    assert index.remove(ids_of([])) == index.remove(ids_of([4])) == 0
    index.add(ids_of([]), np.zeros((0, WIDTH), dtype=np.float32))
    index.add(ids_of([2**62]), query[:1])
    scores, ids = index.search(query, 3)
    assert ids[:, 0].tolist() == [2**62] * 2
    assert (ids[:, 1:] == -1).all()
    assert index.search(np.zeros((0, WIDTH), dtype=np.float32), 3)[1].shape == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_of_equal_ids_wins(kind: str) -> None:
    index = filled(kind, 0)
    vectors = unit(np.random.default_rng(11), 3)
    index.add(ids_of([5, 6, 5]), vectors)
    assert len(index) == 2
    scores, ids = index.search(vectors[2:], 1)
    assert ids[0, 0] == 5
    assert scores[0, 0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_searching_while_others_add_and_remove(kind: str) -> None:
    index = filled(kind, 100)
    anchor = unit(np.random.default_rng(0), 100)[:1]
    stop = threading.Event()
    errors: list[BaseException] = []

    def churn() -> None:
        rng = np.random.default_rng(12)
        try:
            while not stop.is_set():
                index.add(np.arange(500, 540), unit(rng, 40))
                index.remove(np.arange(500, 540))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(60):
            scores, ids = index.search(anchor, 5)
            assert 0 in ids[0]
            assert np.isfinite(scores).all()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert len(index) == 100


def test_kinds_and_options_are_checked() -> None:
    assert set(INDEXES) == {"exact", "flat", "hnsw", "ivf", "gpu", "pgvector", "pgvector-hnsw"}
    with pytest.raises(UnknownNameError, match="did you mean 'hnsw'"):
        create_index("hsnw", 4)
    with pytest.raises(InputError, match="nonsense"):
        create_index("flat", 4, nonsense=1)
    for kind, options in [
        ("ivf", {"probes": 0.0}),
        ("ivf", {"rescore": 0}),
        ("hnsw", {"links": 1}),
        ("hnsw", {"exact_below": -1}),
    ]:
        with pytest.raises(InputError):
            create_index(kind, 4, **options)
    for dimension in (0, -1, 2.5, "x"):
        with pytest.raises(InputError, match="dimension"):
            create_index("exact", dimension)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", [99, "no-such-device"])
def test_the_gpu_kind_says_which_devices_there_are(device: Any) -> None:
    with pytest.raises(InputError, match=r"PyTorch sees \d+ CUDA"):
        create_index("gpu", 4, device=device)


def test_the_gpu_kind_grows_row_by_row_in_half_precision() -> None:
    index = create_index("gpu", WIDTH, device="cpu", float16=True, exact_below=0)
    vectors = unit(np.random.default_rng(0), 300)
    for i in range(300):
        index.add(ids_of([i]), vectors[i : i + 1])
    assert_alike(index, filled("exact", 300), unit(np.random.default_rng(13), 4), 10)


@pytest.mark.gpu
def test_the_gpu_kind_finds_what_the_exact_one_finds() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    index = create_index("gpu", WIDTH, exact_below=0)
    index.add(np.arange(500), unit(np.random.default_rng(0), 500))
    index.remove(np.arange(100))
    reference = filled("exact", 500)
    reference.remove(np.arange(100))
    assert_alike(index, reference, unit(np.random.default_rng(13), 4), 10)
