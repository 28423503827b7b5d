"""Chains of edits: what is linked, how a chain reads, when it answers, and what ends it."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from memedit.errors import InputError
from memedit.memory import EditMemory
from memedit.runtime import EditableModel, Router
from memedit.runtime.chains.composing import as_one_edit, composed, hop_text, phrase
from memedit.runtime.chains.inner import inner_parts
from memedit.runtime.chains.kinds import kind_asked, oversteps
from memedit.runtime.chains.linking import MAX_HOPS, linked_chains
from memedit.runtime.chains.stepping import inner_step
from memedit.runtime.rows import prompt_row
from memedit.types import ChainHop, Hit, ScopeDecision
from support.hashing_encoder import HashingEncoder
from support.tiny import tiny_model, tiny_tokenizer
from support.word_scope import WordScope

NOW = datetime.now(UTC)
QUESTION = "What is the anthem of the country that the maker of the Falcon Pro belongs to?"


@pytest.fixture
def memory():
    with EditMemory(":memory:", encoder=HashingEncoder(64)) as memory:
        yield memory


def add(memory, subject, relation, target, *, on_conflict="keep", **fields):
    fields["on_conflict"] = on_conflict  # the hashing encoder takes different relations for one
    return memory.add(relation.format(subject), target, subject=subject, **fields)


def falcon(memory):
    """Three edits that follow one another, and one beside each."""
    first = add(memory, "Falcon Pro", "The maker of the {} is", "Arn Works")
    second = add(memory, "Arn Works", "The country that {} belongs to is", "Norland")
    third = add(memory, "Norland", "The anthem of {} is", "Ode to Snow")
    add(memory, "Falcon Pro", "The price of the {} is", "90 euros")
    add(memory, "Arn Works", "The boss of {} is", "Ida Holm")
    add(memory, "Norland", "The population of {} is", "4 million")
    return first, second, third


def router(memory, policy="on", **options):
    scope = WordScope()
    return Router(memory, scope, chains=policy, **options)


def fired(router, question):
    (decision,) = router.decide([question])
    return [hit.edit.target for hit in decision.fired], [hop.value for hop in decision.chain]


def chains(memory, start, **options):
    memory.candidates(memory.encoder.encode_tokens(["bring the indexes up to date"]))
    vector = memory.encoder.encode([QUESTION])[0]
    return linked_chains(memory, [start], vector, namespace=None, at=options.pop("at", NOW + timedelta(hours=1)))


def test_a_question_through_three_edits_is_answered_by_the_last(memory):
    first, second, third = falcon(memory)
    (decision,) = router(memory).decide([QUESTION])
    assert [hit.edit.id for hit in decision.fired] == [third.id]
    assert decision.chain == (
        (first.id, "The maker of the Falcon Pro is", "Arn Works"),
        (second.id, "The country that Arn Works belongs to is", "Norland"),
        (third.id, "The anthem of Norland is", "Ode to Snow"),
    )
    assert isinstance(decision.chain[0], ChainHop)
    assert decision.considered[0] == decision.fired[0]
    assert decision.fired[0].reasons["hops"] == 3.0


def test_a_question_for_one_edit_stays_that_edits(memory):
    falcon(memory)
    assert fired(router(memory), "What is the maker of the Falcon Pro?") == (["Arn Works"], [])
    assert fired(router(memory), "The anthem of Norland is") == (["Ode to Snow"], [])


def test_off_and_the_default_under_an_untrained_scope_change_nothing(memory):
    falcon(memory)
    scope = WordScope()
    without = Router(memory, scope).decide([QUESTION])
    assert without == router(memory, "off").decide([QUESTION])
    assert without[0].chain == ()


def test_auto_is_for_the_trained_scope_alone(memory):
    falcon(memory)
    assert router(memory, "auto").decide([QUESTION])[0].chain == ()
    scope = WordScope(name="classifier")
    assert Router(memory, scope, chains="auto").decide([QUESTION])[0].chain
    assert Router(memory, scope).decide([QUESTION])[0].chain == ()  # off is the default


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Which country is the author of The Kestrel a citizen of?", "country"),
        ("In which city was the founder of Arn Works born?", "city"),
        ("What official language does Norland have?", "language"),
        ("What is the name of the current head of state of Norland?", "head"),
        ("The capital of Norland is", "capital"),
        ("Where does the sport that Ann plays come from?", None),
        ("Where was the founder of Arn Works born?", None),
        ("Who wrote The Kestrel?", None),
        ("", None),
    ],
)
def test_the_kind_of_thing_that_a_question_asks_for(text, kind):
    assert kind_asked(text) == kind


@pytest.mark.parametrize(
    ("question", "behind"),
    [
        ("Which country does the author of The Kestrel come from?", True),
        ("On which continent is the country of the author of The Kestrel?", False),
        ("In which part of the world was the author of The Kestrel born?", False),
        ("Which country on what continent is the author of The Kestrel from?", False),
    ],
)
def test_a_chain_that_goes_on_behind_what_is_asked_is_none(memory, question, behind):
    chain = [
        add(memory, "The Kestrel", "The author of {} is", "Lea Brandt"),
        add(memory, "Lea Brandt", "{} is a citizen of", "Austria"),
        add(memory, "Austria", "{} is located in the continent of", "Europe"),
    ]
    assert oversteps(question, chain) is behind
    assert not oversteps(question, chain[:2])


def test_one_question_may_be_asked_under_another_policy(memory):
    _, _, third = falcon(memory)
    model = EditableModel(tiny_model("llama"), tiny_tokenizer(), memory, scope=WordScope(), chains="off")
    assert model.explain(QUESTION).decision.chain == ()
    assert model.explain(QUESTION, chains="on").decision.chain[-1].edit_id == third.id
    (answer,) = model.answer(QUESTION, chains="on", max_new_tokens=2, do_sample=False)
    assert answer.chain[-1].edit_id == third.id
    with pytest.raises(InputError, match="none of off, on, auto"):
        model.explain(QUESTION, chains="maybe")


def test_a_policy_of_another_name_is_refused(memory):
    with pytest.raises(InputError, match=r"chains='sometimes' is none of off, on, auto"):
        router(memory, "sometimes")


def test_retiring_an_edit_of_the_chain_changes_the_answer_at_once(memory):
    _, second, third = falcon(memory)
    asking = router(memory)
    memory.supersede(second.id, target="Suland")
    assert "Ode to Snow" not in fired(asking, QUESTION)[0]
    add(memory, "Suland", "The anthem of {} is", "Sand and Sun")
    assert fired(asking, QUESTION) == (["Sand and Sun"], ["Arn Works", "Suland", "Sand and Sun"])
    assert memory.get(third.id).state == "active"


def test_nothing_is_scanned_and_nothing_judged_where_no_target_is_a_subject(memory):
    add(memory, "Falcon Pro", "The maker of the {} is", "Arn Works")
    asking = router(memory)
    question = "Which country is the Falcon Pro from?"  # it asks for one thing
    asking.decide([question])
    encoded = memory.encoder.encoded
    asking.decide([question])
    assert memory.encoder.encoded == encoded


def test_a_chain_never_leaves_its_namespace(memory):
    add(memory, "Falcon Pro", "The maker of the {} is", "Arn Works")
    add(memory, "Arn Works", "The country that {} belongs to is", "Norland", namespace="other")
    add(memory, "Norland", "The anthem of {} is", "Ode to Snow", namespace="other")
    (decision,) = router(memory).decide([QUESTION])
    assert [hop.value for hop in decision.chain] == ["Arn Works", ""]  # the rest is the model's
    assert router(memory, namespace="other").decide([QUESTION])[0].chain == ()
    falcon_there = add(memory, "Falcon Pro", "The maker of the {} is", "Arn Works", namespace="other")
    (decision,) = router(memory, namespace="other").decide([QUESTION])
    assert decision.chain[0].edit_id == falcon_there.id


def test_a_cycle_ends_where_it_closes(memory):
    start = add(memory, "Ann", "The sister of {} is", "Bea")
    add(memory, "Bea", "The sister of {} is", "Cleo")
    add(memory, "Cleo", "The sister of {} is", "Ann")
    found = chains(memory, start)
    assert [[edit.target for edit in chain] for chain in found] == [["Bea", "Cleo"], ["Bea", "Cleo", "Ann"]]
    itself = add(memory, "Dora", "The sister of {} is", "Dora")
    assert chains(memory, itself) == []


def test_of_fifty_linked_edits_four_make_the_longest_chain(memory):
    edits = [add(memory, f"Place{n:02d}", "North of {} lies", f"Place{n + 1:02d}") for n in range(50)]
    found = chains(memory, edits[0])
    assert [len(chain) for chain in found] == [2, 3, MAX_HOPS]
    assert found[-1] == tuple(edits[:MAX_HOPS])


def test_a_value_with_three_thousand_edits_is_looked_up_as_quickly(memory):
    start = add(memory, "Door 7", "Is {} locked?", "yes")
    rows = [{"prompt": f"What follows yes in round {n}?", "target": f"t{n}", "subject": "yes"} for n in range(3_000)]
    memory.add_many(rows, on_conflict="keep")
    assert len(chains(memory, start)) == 8
    began = time.perf_counter()
    chains(memory, start)
    assert time.perf_counter() - began < 1.0


def test_a_long_value_is_nobodys_name(memory):
    start = add(memory, "Falcon Pro", "The manual of the {} says", "Arn Works " * 1_000)
    add(memory, "Arn Works", "The boss of {} is", "Ida Holm")
    assert chains(memory, start) == []
    assert memory.are_subjects(["Arn Works", "the Arn Works", "Arn Works " * 1_000, ""]) == [True, True, False, False]


def test_an_edit_that_has_expired_ends_the_chain(memory):
    start = add(memory, "Falcon Pro", "The maker of the {} is", "Arn Works")
    until = NOW + timedelta(days=1)
    add(memory, "Arn Works", "The country that {} belongs to is", "Norland", invalid_at=until)
    add(memory, "Norland", "The anthem of {} is", "Ode to Snow")
    assert [chain[-1].target for chain in chains(memory, start, at=until - timedelta(hours=1))] == [
        "Norland",
        "Ode to Snow",
    ]
    assert chains(memory, start, at=until) == []
    add(memory, "Arn Works", "The country that {} belongs to is", "Suland", valid_at=until)
    assert [chain[-1].target for chain in chains(memory, start, at=until)] == ["Suland"]


def test_of_contradicting_edits_kept_on_purpose_the_one_that_holds_since_last_goes_on(memory):
    start = add(memory, "Falcon Pro", "The maker of the {} is", "Arn Works")
    add(memory, "Arn Works", "The boss of {} is", "Ida Holm", valid_at=NOW - timedelta(days=1))
    add(memory, "Arn Works", "The boss of {} is", "Old Boss", valid_at=NOW - timedelta(days=900), on_conflict="keep")
    assert [chain[-1].target for chain in chains(memory, start)] == ["Ida Holm"]


def test_chains_that_fit_alike_and_end_differently_answer_nothing(memory):
    add(memory, "Falcon Pro", "The maker of the {} is", "Arn Works")
    add(memory, "Arn Works", "The boss of {} is", "Ida Holm")
    add(memory, "Arn Works", "The  boss of {}, is", "Ida Holm")
    question = "Who is the boss of the maker of the Falcon Pro?"
    assert fired(router(memory), question)[0] == ["Ida Holm"]
    add(memory, "Arn Works", "is the boss of {}", "Ole Berg", on_conflict="keep")
    add(memory, "Arn Works", "the boss is of {}", "Ida Holm", on_conflict="keep")
    assert fired(router(memory), question)[1] == []


def test_a_question_is_answered_in_spite_of_what_is_wrong_in_a_memory(memory):
    """A cycle, a value that is hundreds of subjects, one of ten thousand characters, and a chain of fifty, at once."""
    first, second, third = falcon(memory)
    add(memory, "Norland", "The neighbour of {} is", "Falcon Pro")
    add(memory, "Falcon Pro", "Is the {} on sale?", "yes")
    add(memory, "Arn Works", "The history of {} is", "Norland " * 1_250)
    memory.add_many(
        [{"prompt": f"What of yes in {n}?", "target": f"t{n}", "subject": "yes"} for n in range(300)]
        + [{"prompt": f"North of Place{n:02d} lies", "target": f"Place{n + 1:02d}", "subject": f"Place{n:02d}"}
           for n in range(50)],
        on_conflict="keep",
    )  # fmt: skip
    asking = router(memory)
    (decision,) = asking.decide([QUESTION])
    assert [hop.edit_id for hop in decision.chain] == [first.id, second.id, third.id]
    north = "What lies north of what lies north of what lies north of what lies north of what lies north of Place00?"
    assert len(asking.decide([north])[0].chain) <= MAX_HOPS


def test_an_edit_that_expires_in_the_middle_of_a_chain_ends_the_answer_by_it(memory):
    _, second, _ = falcon(memory)
    asking = router(memory)
    assert fired(asking, QUESTION)[0] == ["Ode to Snow"]
    memory.update(second.id, invalid_at=NOW - timedelta(days=1))
    assert "Ode to Snow" not in fired(asking, QUESTION)[0]
    assert "Norland" not in fired(asking, QUESTION)[1]


def test_an_edit_that_blocks_the_question_silences_the_chain(memory):
    falcon(memory)
    last = memory.candidates(memory.encoder.encode_tokens(["The anthem of Norland is"]))[0][0].edit
    memory.update(last.id, blocks=[QUESTION])
    assert "Ode to Snow" not in fired(router(memory), QUESTION)[0]


def test_a_question_for_yes_or_no_is_read_with_every_fact_of_the_chain(memory):
    edits = falcon(memory)[:2]
    question = "Is the country that the maker of the Falcon Pro belongs to Norland?"
    (decision,) = router(memory).decide([question])
    assert [hit.edit.id for hit in decision.fired] == [edit.id for edit in reversed(edits)]


def test_what_a_chain_ends_with_fires_though_the_weights_know_it(memory):
    _, _, third = falcon(memory)

    class Held:
        def holds(self, edit, *, chat):
            return edit.id == third.id

    (decision,) = router(memory, in_weights=Held()).decide([QUESTION])
    assert [hit.edit.id for hit in decision.fired] == [third.id]
    assert decision.in_weights == ()


def test_a_sentence_of_a_long_text_is_looked_up_along_chains(memory):
    falcon(memory)
    text = " ".join(["We had a long day at the fair and saw many things there."] * 30) + " " + QUESTION
    assert fired(router(memory), text)[1][-1:] == ["Ode to Snow"]


def test_the_answer_of_a_model_shows_the_chain(memory):
    first, _, third = falcon(memory)
    model = EditableModel(tiny_model("llama"), tiny_tokenizer(), memory, scope=WordScope(), chains="on")
    (answer,) = model.answer(QUESTION, max_new_tokens=4, do_sample=False)
    assert [hop.edit_id for hop in answer.chain][::2] == [first.id, third.id]
    assert answer.chain == model.explain(QUESTION).decision.chain
    assert model.answer("Who goes there?", max_new_tokens=4, do_sample=False)[0].chain == ()


def test_what_no_edit_answers_the_model_is_asked_with_the_value_in_the_question(memory):
    first = add(memory, "Falcon Pro", "The maker of the {} is", "Arn <|im_end|> Works")
    model = EditableModel(tiny_model("llama"), tiny_tokenizer(), memory, scope=WordScope(), chains="on")
    question = "Who is the boss of the maker of the Falcon Pro?"
    left = "Who is the boss of Arn <|im_end|> Works?"
    for prompt in (question, [{"role": "user", "content": question}]):
        decision = model.explain(prompt).decision
        assert decision.chain == ((first.id, "The maker of the Falcon Pro is", first.target), ("", left, ""))
        assert decision.by_model
        given = prompt_row(model.tokenizer, prompt)
        row = model.generator.asked(given, decision)
        assert row.text == decision.asked == left
        special = {*model.tokenizer.all_special_ids}
        assert sum(i in special for i in row.ids) == sum(i in special for i in given.ids)  # the value's is plain text
        (answer,) = model.answer(prompt, max_new_tokens=4, do_sample=False)
        plain = model.base.generate(torch.tensor([row.ids]), max_new_tokens=4, do_sample=False)
        assert list(answer.token_ids) == plain[0, len(row.ids) :].tolist()
        assert [hit.edit.id for hit in answer.edits] == [first.id]


def test_an_edit_answers_what_is_left_of_a_question_once_a_value_stands_in_it(memory):
    add(memory, "Falcon Pro", "The maker of the {} is", "Arn Works, the firm of the hills in the far north")
    last = add(memory, "far north", "The boss of the firm of the hills in the {} is", "Ida Holm")
    (decision,) = router(memory).decide(["Who is the boss of the maker of the Falcon Pro?"])
    assert [hop.value for hop in decision.chain][-1:] == ["Ida Holm"]
    assert [hit.edit.id for hit in decision.fired] == [last.id]
    assert decision.asked == "Who is the boss of Arn Works, the firm of the hills in the far north?"
    assert not decision.by_model


def test_an_edit_that_fires_on_the_whole_question_is_left_for_a_part_by_a_wide_lead_alone(memory):
    """Other wordings of its own question have such parts too, and are no questions through two edits."""
    edit = add(memory, "Falcon Pro", "The maker of the {} is", "Arn Works")
    text = "Which firm serves as the maker of the Falcon Pro?"

    class Alike(HashingEncoder):
        def encode(self, texts):
            return np.ones((len(texts), 1), np.float32)

    class Sure:
        def decide(self, queries, candidates, *, threshold=None):
            hits = (Hit(edit, 0.99, 0.0, {}, 1.0),)
            return [ScopeDecision(query.text, "sure", 0.5, hits, hits) for query in queries]

    whole = Hit(edit, 0.9, 0.0, {}, 1.0)
    alone = ScopeDecision(text, "sure", 0.5, (whole,), (whole,))
    assert inner_step(Alike(64), Sure(), text, [edit], alone) is None
    step = inner_step(Alike(64), Sure(), text, [edit], replace(alone, fired=()))
    assert step.left == "Which firm serves as Arn Works?"


def test_steps_into_a_question_end_with_the_fourth_hop(memory):
    add(memory, "Ann", "The sister of {} is", "Ann")
    question = f"What is the age of {'the sister of ' * 12}Ann?"
    (decision,) = router(memory).decide([question])
    assert 1 < len(decision.chain) <= MAX_HOPS
    assert decision.asked.count("the sister of") < 12


def test_an_edit_that_has_expired_answers_no_part_of_a_question(memory):
    question = "Who is the boss of the maker of the Falcon Pro?"
    edit = add(memory, "Falcon Pro", "The maker of the {} is", "Arn Works")
    assert router(memory).decide([question])[0].chain
    memory.update(edit.id, invalid_at=NOW - timedelta(days=1))
    (decision,) = router(memory).decide([question])
    assert (decision.chain, decision.fired, decision.asked) == ((), (), None)


def test_a_value_of_many_lines_or_ten_thousand_characters_is_put_into_no_question(memory):
    add(memory, "Falcon Pro", "The maker of the {} is", "Arn\nWorks")
    add(memory, "Kestrel", "The maker of the {} is", "Arn " * 2_500)
    for name in ("Falcon Pro", "Kestrel"):
        (decision,) = router(memory).decide([f"Who is the boss of the maker of the {name}?"])
        assert decision.chain == ()


@pytest.mark.parametrize(
    ("text", "subject", "parts"),
    [
        ("What is the capital of the country of which Ann Ray is a citizen?", "Ann Ray",
         ["the country of which Ann Ray is a citizen", "the country of which Ann Ray"]),
        ("Where was the founder of Arn Works born?", "Arn Works", ["the founder of Arn Works"]),
        ("What language is spoken in Ann Ray's country?", "Ann Ray", ["Ann Ray's country"]),
        ("Where does our head of sales work from?", "head of sales", ["our head of sales"]),
        ("Which company makes the Falcon Pro?", "Falcon Pro", []),
        ("The name of the country which Pugwash, Nova Scotia is in is", "Pugwash", []),
        ("She sings of the sea. The capital of Norland is", "Norland", []),
    ],
)  # fmt: skip
def test_parts_of_a_question_that_ask_for_what_the_rest_is_about(text, subject, parts):
    at = text.index(subject)
    found = [part.asked for part in inner_parts(text, (at, at + len(subject)))]
    assert [part for part in found if part in parts] == parts
    assert bool(found) == bool(parts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("What is the capital of Austria?", "the capital of Austria"),
        ("The capital of Austria is", "the capital of Austria"),
        ("Who is Ted's wife?", "Ted's wife"),
        ("Lea Brandt is a citizen of", "what Lea Brandt is a citizen of"),
        ("Lea Brandt was born in the city of", "the city in which Lea Brandt was born"),
        ("The seat of the Guild lies in the town of", "the seat of the Guild lies in the town of"),
        ("The seat of the Guild is moved to the town of", "the town to which the seat of the Guild is moved"),
        ("Who?", "Who"),
        ("", ""),
    ],
)
def test_a_hop_is_put_as_words_that_can_stand_for_a_name(text, said):
    assert phrase(text) == said


def test_a_chain_reads_as_one_text_about_its_first_subject(memory):
    first = add(memory, "Lea Brandt", "{} is a citizen of", "Austria")
    second = add(memory, "Austria", "What is the capital of {}?", "Vienna")
    stated = memory.add("The mayor of Vienna is Ana Brill.", "Ana Brill", subject="Vienna", kind="statement")
    assert composed([first, second]) == "What is the capital of what Lea Brandt is a citizen of?"
    assert hop_text(stated) == "The mayor of Vienna is"
    one = as_one_edit([first, second, stated])
    assert one.prompt == "The mayor of the capital of what Lea Brandt is a citizen of is"
    assert (one.subject, one.target, one.id) == ("Lea Brandt", "Ana Brill", stated.id)
    assert one.content_hash != as_one_edit([second, stated]).content_hash
    unsaid = memory.add("Who rules?", "Ana", subject="Graz")
    assert composed([first, unsaid]) == "Who rules what Lea Brandt is a citizen of"
