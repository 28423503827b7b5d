"""Answers of the server that are looked up while they are written."""

import pytest

from memedit import Client
from memedit.memory import EditMemory
from memedit.runtime import EditableModel, placing
from memedit.server import ServerSettings
from memedit.server.engines.local import LocalEngine
from memedit.server.lookups import Lookups
from support.hashing_encoder import HashingEncoder
from support.running_server import serve
from support.teller_model import PROMPT, TEXT, teller_model
from support.tiny import tiny_tokenizer
from support.word_scope import WordScope


@pytest.fixture(params=["off", "sentence", 8])
def served(request, monkeypatch):
    """A client, the policy, the memory and what the model itself says in the place of the server."""
    monkeypatch.setattr("memedit.server.lookups.load_scope", lambda *_, **__: WordScope())
    monkeypatch.setattr(placing, "_LIKELY", 0.0)
    with EditMemory(":memory:", encoder=HashingEncoder(64)) as memory:
        lookups = Lookups(memory, scope="words")
        model = EditableModel.wrap(
            teller_model(), tiny_tokenizer(), memory, scope=lookups.scope, adapter="in_context", recheck=request.param
        )
        engine = LocalEngine(model, lookups, name="tiny")
        with serve(engine, lookups, ServerSettings(auth=False)) as server, Client(server.url) as client:
            yield client, request.param, memory, model


def test_running_batches_say_what_the_model_says(served):
    client, policy, memory, model = served
    options = {"max_tokens": 80, "temperature": 0.0}
    assert client.complete(PROMPT, **options).text == TEXT  # nothing is stored
    edit = memory.add("The maker of the Falcon Pro is", "Arn Works", subject="Falcon Pro")
    answer = client.complete(PROMPT, **options)
    (alone,) = model.answer(PROMPT, max_new_tokens=80, do_sample=False)
    assert answer.text == alone.text
    assert (" Arn Works" in answer.text) is (policy != "off")
    assert [hit.id for hit in answer.edits] == ([edit.id] if policy != "off" else [])
