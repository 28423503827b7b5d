"""A running server that follows two made-up versions of a tiny model, and what each of them is to say."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from memedit.adapters import Adapter, create_adapter
from memedit.config import ModelConfig
from memedit.consolidation.apply import write_delta
from memedit.consolidation.delta_files import load_delta
from memedit.consolidation.loaded import LoadedVersion
from memedit.consolidation.overlays import FrozenBase
from memedit.consolidation.records import DELTA
from memedit.consolidation.versions import VersionStore
from memedit.memory import EditMemory
from memedit.models import LoadedModel, load_model, model_fingerprint
from memedit.runtime import EditableModel
from memedit.server.active_weights import ActiveWeights
from memedit.server.consolidations import ConsolidationSetup, Consolidator
from memedit.server.engines.local import LocalEngine
from memedit.server.lookups import Lookups
from memedit.server.settings import ServerSettings
from memedit.server.version_watcher import VersionWatcher
from memedit.workflows.consolidate.versions import version_store
from support.hashing_encoder import HashingEncoder
from support.made_versions import made_version
from support.running_server import RunningServer, serve
from support.tiny import tiny_model, tiny_tokenizer

CAPITAL = "The capital of Freedonia is"
PROMPTS = (CAPITAL, "Water boils at", "x" * 70, "Once upon a time")
LIMIT = 12
_SAID: dict[tuple[str | None, str, int], str] = {}
"""What the versions that :func:`following_server` makes are to say; the same in every test."""


def fresh(family: str = "llama", seed: int = 0) -> LoadedModel:
    model, tokenizer = tiny_model(family, seed), tiny_tokenizer()
    return LoadedModel(model, tokenizer, "tiny", model_fingerprint(model, tokenizer))


@dataclass
class Following:
    """A running server, the versions that it follows, and what each of them is to say."""

    server: RunningServer
    memory: EditMemory
    store: VersionStore
    watcher: VersionWatcher
    checkpoint: Path
    known: dict[tuple[str | None, str, int], str] = field(default_factory=lambda: _SAID)

    def client(self, **headers: str) -> httpx.Client:
        return self.server.client(headers=headers)

    def ask(self, prompt: str, limit: int = LIMIT, *, edits: bool = True, namespace: str = "default") -> Any:
        body = {"prompt": prompt, "max_tokens": limit, "temperature": 0, "memedit": {"edits": edits}}
        with self.client(**{"X-Memedit-Namespace": namespace}) as client:
            return client.post("/v1/completions", json=body)

    def expected(self, version: str | None, prompt: str, limit: int = LIMIT) -> str:
        """What a process of its own, with that version's weights and this memory, answers by ``generate``."""
        key = (version, prompt, limit)
        if key not in self.known:
            loaded, found = load_model(self.checkpoint), None
            if version is not None:
                folder = self.store.folder(version)
                write_delta(loaded, load_delta(folder / DELTA))
                found = LoadedVersion(folder, self.store.record(version))
            adapter = plain(loaded.model, loaded.tokenizer)
            model = EditableModel.wrap(
                loaded.model, loaded.tokenizer, self.memory, scope="subject", adapter=adapter, version=found
            )
            self.known[key] = model.answer([prompt], max_new_tokens=limit, do_sample=False)[0].text
        return self.known[key]


def plain(model: Any, tokenizer: Any) -> Adapter:
    """Edits as text and nothing else: with the target's say in decoding all versions would say the target."""
    return create_adapter("in_context", model, tokenizer, target_weight=0.0)


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["text"])


@contextmanager
def following_server(folder: Path, publish: str | None = None, **options: Any) -> Iterator[Following]:
    """v0001 has the edit in its weights, v0002 has none: with it the memory answers on other weights."""
    with EditMemory(folder / "edits.db", encoder=HashingEncoder(64)) as memory:
        memory.add(CAPITAL, "Sylvania City", subject="Freedonia")
        memory.add(CAPITAL, "Klopstokia City", subject="Freedonia", namespace="other")
        store = version_store(memory)
        made = fresh()
        made.model.save_pretrained(folder / "model")
        made.tokenizer.save_pretrained(folder / "model")
        base = load_model(folder / "model")  # its config says more than that of a model just made
        made_version(store, base, memory.list(), seed=1)
        made_version(store, base, [], seed=2, layers=(1, 2))
        if publish is not None:
            store.promote(publish)
        lookups = Lookups(memory, scope="subject", weights=ActiveWeights("default"))
        adapter = plain(base.model, base.tokenizer)
        model = EditableModel.wrap(base.model, base.tokenizer, memory, scope=lookups.scope, adapter=adapter)
        watcher = VersionWatcher(lookups.weights, store, FrozenBase(base.model, base.tokenizer, "tiny"))
        setup = ConsolidationSetup(str(folder / "edits.db"), "minilm", ModelConfig(name=str(folder / "model")))
        settings = ServerSettings(auth=False, requests_per_minute=0)
        engine = LocalEngine(model, lookups, name="tiny", **options)
        with serve(engine, lookups, settings, consolidator=Consolidator(setup), watcher=watcher) as server:
            yield Following(server, memory, store, watcher, folder / "model")


def damage(path: Path) -> bytes:
    """Flip a byte; return what was there."""
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    return whole
