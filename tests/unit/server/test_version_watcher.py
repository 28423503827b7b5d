"""A server that follows its namespace's champion: weights are exchanged under load and nobody gets a mixture."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from memedit.consolidation.apply import write_delta
from memedit.consolidation.delta_files import load_delta
from memedit.consolidation.loaded import LoadedVersion
from memedit.consolidation.overlays import FrozenBase
from memedit.consolidation.records import DELTA, WeightScope
from memedit.consolidation.versions import VersionStore
from memedit.errors import FingerprintMismatchError, StoreCorruptError, UnsupportedModelError
from memedit.memory import EditMemory
from memedit.models import load_model, model_fingerprint
from memedit.runtime import EditableModel
from memedit.server import app
from memedit.server import version_watcher as following
from memedit.server.active_weights import ActiveWeights
from memedit.server.engines import local
from memedit.server.engines.local import LocalEngine
from memedit.server.lookups import Lookups
from memedit.server.settings import ServerSettings
from memedit.server.version_watcher import VersionWatcher, fixed_weights
from support.following_setup import CAPITAL, PROMPTS, Following, damage, following_server, fresh, text_of
from support.hashing_encoder import HashingEncoder
from support.made_versions import made_version
from support.running_server import serve
from support.tiny import tiny_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Following]:
    with following_server(tmp_path) as found:
        yield found


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.02)
    return check()


def test_the_versions_say_different_things(followed: Following) -> None:
    """Otherwise none of the tests below could fail."""
    for prompt in PROMPTS:
        said = {followed.expected(version, prompt) for version in (None, "v0001", "v0002")}
        assert len(said) == 3, prompt


def test_what_is_published_answers_the_next_request_and_a_rollback_takes_it_back(followed: Following) -> None:
    with followed.client() as client:
        assert text_of(followed.ask(CAPITAL)) == followed.expected(None, CAPITAL)
        for path, version in (("versions/v0001/publish", "v0001"), ("versions/v0002/publish", "v0002")):
            assert client.post(f"/v1/consolidations/{path}").json()["champion"] == version
            for prompt in PROMPTS:
                response = followed.ask(prompt)
                assert text_of(response) == followed.expected(version, prompt)
                assert response.json()["memedit"]["version"] == response.headers["x-memedit-version"] == version
        assert client.post("/v1/consolidations/rollback").json()["champion"] == "v0001"
        by_weights = followed.ask(CAPITAL)
        assert text_of(by_weights) == followed.expected("v0001", CAPITAL)
        told = by_weights.json()["memedit"]
        assert (told["edits"], [hit["target"] for hit in told["in_weights"]]) == ([], ["Sylvania City"])
        explained = client.post("/v1/edits/explain", json={"prompt": CAPITAL}).json()
        assert (explained["version"], explained["fired"], len(explained["in_weights"])) == ("v0001", [], 1)
        followed.store.promote(None)  # as withdrawing the last edit does, in the job's own process
        assert eventually(lambda: followed.ask(CAPITAL, 1).json()["memedit"]["version"] is None)
        by_memory = followed.ask(CAPITAL)
        assert text_of(by_memory) == followed.expected(None, CAPITAL)
        assert [hit["target"] for hit in by_memory.json()["memedit"]["edits"]] == ["Sylvania City"]
        assert "x-memedit-version" not in by_memory.headers


def test_of_a_gated_version_only_rows_meet_the_weights_whose_edits_these_answer(followed: Following) -> None:
    base, edits = load_model(followed.checkpoint), followed.memory.list()
    name = made_version(followed.store, base, edits, seed=1, scope=WeightScope.GATED)
    followed.store.promote(name)
    followed.watcher.look()
    with ThreadPoolExecutor(8) as pool:  # in one running batch
        found = [response.result() for response in [pool.submit(followed.ask, prompt) for prompt in PROMPTS * 2]]
    versions = [name, None, None, None] * 2
    assert [response.json()["memedit"]["version"] for response in found] == versions
    wanted = ["v0001", None, None, None] * 2  # its weights are those of v0001
    pairs = zip(wanted, PROMPTS * 2, strict=True)
    assert [text_of(response) for response in found] == [followed.expected(*pair) for pair in pairs]
    with followed.client() as client:
        told = client.get(f"/v1/consolidations/edits/{edits[0].id}").json()
        assert (told["version"], told["scope"], told["served"]) == (name, "gated", True)
        assert client.get("/v1/consolidations/edits/none").status_code == 404


def test_other_namespaces_and_prompts_with_edits_off_are_answered_by_the_plain_base(followed: Following) -> None:
    others = [text_of(followed.ask(prompt, namespace="other")) for prompt in PROMPTS]
    off = [text_of(followed.ask(prompt, edits=False)) for prompt in PROMPTS]
    assert others[1:] == off[1:] == [followed.expected(None, prompt) for prompt in PROMPTS[1:]]
    followed.store.promote("v0001")
    followed.watcher.look()
    with ThreadPoolExecutor(8) as pool:  # together with rows on the version's weights, in the same running batch
        mine = [pool.submit(followed.ask, prompt) for prompt in PROMPTS]
        theirs = [pool.submit(followed.ask, prompt, namespace="other") for prompt in PROMPTS]
        bare = [pool.submit(followed.ask, prompt, edits=False) for prompt in PROMPTS]
        assert [text_of(one.result()) for one in mine] == [followed.expected("v0001", prompt) for prompt in PROMPTS]
        assert [text_of(one.result()) for one in theirs] == others
        assert [text_of(one.result()) for one in bare] == off
    told = theirs[0].result().json()["memedit"]
    assert (told["version"], [hit["target"] for hit in told["edits"]]) == (None, ["Klopstokia City"])


def test_an_answer_under_way_ends_on_the_weights_it_began_with(followed: Following) -> None:
    followed.store.promote("v0001")
    followed.watcher.look()
    prompt, limit = PROMPTS[3], 500
    expected = {version: followed.expected(version, prompt) for version in ("v0002", None)}
    body = {"prompt": prompt, "max_tokens": limit, "temperature": 0, "stream": True, "ignore_eos": True}
    with followed.client() as client, client.stream("POST", "/v1/completions", json=body) as stream:
        lines = stream.iter_lines()
        chunks = [next(lines)]
        followed.store.promote("v0002")
        followed.watcher.look()
        assert text_of(followed.ask(prompt)) == expected["v0002"]
        followed.store.promote(None)
        followed.watcher.look()
        assert text_of(followed.ask(prompt)) == expected[None]
        running = followed.server.engine.load
        assert eventually(lambda: running().running == 1, seconds=1.0), "nobody had to wait for the long answer"
        chunks += [line for line in lines if line]
    told = [json.loads(line.removeprefix("data: ")) for line in chunks if line.startswith("data: {")]
    assert told[0]["memedit"]["version"] == "v0001"
    said = "".join(choice["text"] for chunk in told for choice in chunk["choices"])
    loaded = load_model(followed.checkpoint)
    write_delta(loaded, load_delta(followed.store.folder("v0001") / DELTA))
    ids = loaded.tokenizer(prompt, return_tensors="pt")["input_ids"]
    whole = loaded.model.generate(ids, max_new_tokens=limit, do_sample=False, eos_token_id=None)[0, ids.shape[1] :]
    assert said == loaded.tokenizer.decode(whole, skip_special_tokens=True)


def test_under_load_every_answer_is_one_versions_from_its_first_token_to_its_last(followed: Following) -> None:
    stop = threading.Event()
    found: list[tuple[str, dict[str, Any], bool]] = []

    def load(number: int) -> None:
        while not stop.is_set():
            prompt = PROMPTS[number % len(PROMPTS)]
            number, swaps = number + 1, followed.watcher.swaps
            body = followed.ask(prompt).json()
            found.append((prompt, body, followed.watcher.swaps > swaps))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    try:
        for version in ("v0001", "v0002", None, "v0002", "v0001", None) * 3:
            followed.store.promote(version)
            followed.watcher.look()
            body = followed.ask(CAPITAL, 2).json()["memedit"]
            assert body["version"] == version, "what begins after a swap is answered by the new weights"
            assert len(body["edits"]) + len(body["in_weights"]) == 1, "by weights or memory, never by neither"
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {body["memedit"]["version"] for _, body, _ in found} == {None, "v0001", "v0002"}
    assert sum(during for _, _, during in found) >= 3, "some answers were under way while weights were exchanged"
    for prompt, body, _ in found:
        told = body["memedit"]
        assert body["choices"][0]["text"] == followed.expected(told["version"], prompt), (prompt, told["version"])
        if prompt == CAPITAL:
            by_weights = told["version"] == "v0001"
            assert (len(told["edits"]), len(told["in_weights"])) == ((0, 1) if by_weights else (1, 0))


def test_what_another_process_publishes_is_noticed(followed: Following) -> None:
    VersionStore(followed.store.root).promote("v0002")
    assert eventually(lambda: followed.ask(CAPITAL, 1).json()["memedit"]["version"] == "v0002", seconds=3.0)
    with followed.client() as client:
        assert client.get("/v1/consolidations").json()["serving"] == {
            "version": "v0002", "follows": True, "problem": None,
        }  # fmt: skip
        other = client.get("/v1/consolidations", params={"namespace": "other"}).json()
        assert other["serving"] == {"version": None, "follows": False, "problem": None}
        metrics = client.get("/metrics").text
    assert 'memedit_version{namespace="default",version="v0002"} 1.0' in metrics
    assert "memedit_version_current 1.0" in metrics
    assert "memedit_version_swaps_total 1.0" in metrics


def test_what_a_job_publishes_answers_when_the_job_is_told_to_be_done(
    followed: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job, in a process of its own, finds no edit left for the weights and makes the plain base champion."""
    monkeypatch.setattr(app, "_LOOK_EVERY", 3600.0)  # nobody else is to notice
    with followed.client() as client:
        client.post("/v1/consolidations/versions/v0001/publish")
        ids = [edit.id for edit in followed.memory.list(namespace="default")]
        job = client.post("/v1/consolidations/withdraw", json={"ids": ids}).json()
        assert text_of(followed.ask(PROMPTS[1])) == followed.expected("v0001", PROMPTS[1])
        assert eventually(
            lambda: client.get(f"/v1/consolidations/jobs/{job['id']}").json()["state"] != "running", seconds=120.0
        )
        ended = followed.ask(CAPITAL)
        job = client.get(f"/v1/consolidations/jobs/{job['id']}").json()
        assert (job["state"], job["published"]) == ("done", True), job["message"]
        assert ended.json()["memedit"]["version"] is None
        assert text_of(ended) == text_of(followed.ask(CAPITAL, edits=False))


def test_a_damaged_version_is_refused_and_the_old_one_goes_on(
    followed: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    with followed.client() as client:
        client.post("/v1/consolidations/versions/v0001/publish")
        path = followed.store.folder("v0002") / DELTA
        whole = damage(path)
        refused = client.post("/v1/consolidations/versions/v0002/publish")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "version_unusable")
        assert "delta.safetensors has changed" in refused.json()["error"]["message"]
        assert followed.store.aliases().champion == "v0001", "refused before anything was changed"
        followed.store.promote("v0002")  # another process, which does not look
        followed.watcher.look()
        assert text_of(followed.ask(CAPITAL)) == followed.expected("v0001", CAPITAL)
        serving = client.get("/v1/consolidations").json()["serving"]
        assert (serving["version"], "has changed" in serving["problem"]) == ("v0001", True)
        assert "memedit_version_current 0.0" in client.get("/metrics").text
        path.write_bytes(whole)
        monkeypatch.setattr(following, "RETRY_SECONDS", 0.0)
        followed.watcher._retry_at = 0.0
        followed.watcher.look()
        assert text_of(followed.ask(CAPITAL)) == followed.expected("v0002", CAPITAL)
        assert client.get("/v1/consolidations").json()["serving"]["problem"] is None
        damage(followed.store.folder("v0001") / DELTA)
        assert client.post("/v1/consolidations/rollback").status_code == 409
        assert followed.store.aliases().champion == "v0002"


def test_a_version_of_another_base_is_refused(followed: Following) -> None:
    followed.store.promote(made_version(followed.store, fresh(seed=5), [], seed=3))
    followed.watcher.look()
    assert "was made for 'tiny' and cannot be used with this model" in str(followed.watcher.problem)
    assert text_of(followed.ask(CAPITAL)) == followed.expected(None, CAPITAL)
    with pytest.raises(FingerprintMismatchError):
        VersionWatcher(ActiveWeights("default"), followed.store, FrozenBase(fresh().model, tiny_tokenizer(), "tiny"))


def test_a_version_of_another_namespace_is_refused(followed: Following) -> None:
    base = load_model(followed.checkpoint)
    followed.store.promote(made_version(followed.store, base, [], seed=3, namespace="other"))
    followed.watcher.look()
    assert "has edits of namespace 'other' in its weights" in str(followed.watcher.problem)
    assert text_of(followed.ask(PROMPTS[1])) == followed.expected(None, PROMPTS[1])


def test_models_that_no_running_batch_can_hold_follow_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise UnsupportedModelError("not this one")

    monkeypatch.setattr(local, "check_model", refuse)
    with following_server(tmp_path, "v0001") as followed:
        for version in ("v0001", "v0002", None):
            followed.store.promote(version)
            followed.watcher.look()
            for prompt in PROMPTS[:2]:
                assert text_of(followed.ask(prompt)) == followed.expected(version, prompt)
            assert text_of(followed.ask(PROMPTS[1], edits=False)) == followed.expected(None, PROMPTS[1])
            assert text_of(followed.ask(PROMPTS[1], namespace="other")) == followed.expected(None, PROMPTS[1])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_versions_are_made_from_the_base_whatever_is_on_the_model(tmp_path: Path, family: str) -> None:
    store = VersionStore(tmp_path)
    names = [made_version(store, fresh(family), [], seed=seed, layers=(seed, 2)) for seed in (0, 1)]
    loaded = fresh(family)
    base = FrozenBase(loaded.model, loaded.tokenizer, "tiny")
    _, first = base.version(store, names[0])
    with first.on(loaded.model):
        _, second = base.version(store, names[1])
    assert model_fingerprint(loaded.model, loaded.tokenizer) == loaded.fingerprint, "the base is whole, bit for bit"
    expected = fresh(family)
    write_delta(expected, load_delta(store.folder(names[1]) / DELTA))
    with second.on(loaded.model):
        found = model_fingerprint(loaded.model, loaded.tokenizer)
    assert found == model_fingerprint(expected.model, expected.tokenizer)
    (store.folder(names[1]) / "memedit_version.json").unlink()
    with pytest.raises(StoreCorruptError, match="missing"):
        base.version(store, names[1])


def test_a_server_of_one_version_answers_other_namespaces_by_the_base_too(tmp_path: Path) -> None:
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        store = VersionStore(tmp_path / "versions")
        fresh().model.save_pretrained(tmp_path / "model")
        tiny_tokenizer().save_pretrained(tmp_path / "model")
        name = made_version(store, load_model(tmp_path / "model"), [], seed=1, whole=True)
        lookups = Lookups(memory, scope="subject")
        model = EditableModel.from_pretrained(
            store.folder(name), memory=memory, scope=lookups.scope, adapter="in_context"
        )
        assert isinstance(model.version, LoadedVersion)
        lookups.weights = fixed_weights(model.version, model.base)
        engine = LocalEngine(model, lookups, name="tiny")
        with serve(engine, lookups, ServerSettings(auth=False, requests_per_minute=0)) as server:
            asked = Following(server, memory, store, None, tmp_path / "model", {})  # type: ignore[arg-type]
            for prompt in PROMPTS:
                assert text_of(asked.ask(prompt)) == asked.expected(name, prompt)
                assert text_of(asked.ask(prompt, namespace="other")) == asked.expected(None, prompt)
                assert text_of(asked.ask(prompt, edits=False)) == asked.expected(None, prompt)
