"""The chain behind an answer, over HTTP."""

import pytest

from memedit import Client
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from memedit.server import ServerSettings
from memedit.server.engines.local import LocalEngine
from memedit.server.lookups import Lookups
from memedit.server.rendering import Shown, shown_chain
from memedit.types import ChainHop
from support.hashing_encoder import HashingEncoder
from support.running_server import serve
from support.tiny import tiny_model, tiny_tokenizer
from support.word_scope import WordScope

QUESTION = "What is the country that the maker of the Falcon Pro belongs to?"
HOPS = [("The maker of the Falcon Pro is", "Arn Works"), ("The country that Arn Works belongs to is", "Norland")]


@pytest.fixture(params=["on", "off"])
def served(request, monkeypatch):
    """A client of a server with two linked edits, and the ids of these where the server looks along chains."""
    monkeypatch.setattr("memedit.server.lookups.load_scope", lambda *_, **__: WordScope())
    with EditMemory(":memory:", encoder=HashingEncoder(64)) as memory:
        rows = [{"prompt": prompt, "target": target} for prompt, target in HOPS]
        rows = [{**row, "subject": name} for row, name in zip(rows, ("Falcon Pro", "Arn Works"), strict=True)]
        ids = memory.add_many(rows, on_conflict="keep").ids
        lookups = Lookups(memory, scope="words", chains=request.param)
        model = EditableModel.wrap(
            tiny_model("llama"), tiny_tokenizer(), memory, scope=lookups.scope, adapter="in_context"
        )
        engine = LocalEngine(model, lookups, name="tiny")
        with serve(engine, lookups, ServerSettings(auth=False)) as server, Client(server.url) as client:
            yield client, ids if request.param == "on" else ()


def test_answers_and_explanations_show_the_chain(served):
    client, ids = served
    chain = tuple(ChainHop(edit_id, *hop) for edit_id, hop in zip(ids, HOPS, strict=False))
    assert client.explain(QUESTION).chain == chain
    answer = client.chat([{"role": "user", "content": QUESTION}], max_tokens=4)
    assert answer.chain == chain
    assert [hit.target for hit in answer.edits] == (["Norland"] if ids else ["Arn Works"])


def test_a_request_may_have_a_policy_of_its_own(served):
    client, ids = served
    policy = "off" if ids else "on"
    answer = client.chat([{"role": "user", "content": QUESTION}], max_tokens=2, memedit={"chains": policy})
    assert bool(answer.chain) is not bool(ids)


def test_a_key_that_may_not_read_edits_sees_ids_alone():
    hop = ChainHop("e1", "The maker of the Falcon Pro is", "Arn Works")
    assert shown_chain([hop], Shown(texts=False)) == [{"id": "e1", "question": None, "value": None}]
    assert shown_chain([hop], Shown())[0]["value"] == "Arn Works"
