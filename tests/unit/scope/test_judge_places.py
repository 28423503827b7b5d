"""Where subjects stand, what is masked, what of long texts and talks is read."""

import pytest

from memedit.index.words import words
from memedit.scope.judge.places import (
    alike,
    disagree,
    focused,
    masked,
    named_outright,
    other_script,
    partly_named,
    places,
    renamed,
    shares_name,
    told,
    within_longer_name,
)
from memedit.scope.talk import TURN


@pytest.mark.parametrize(
    ("text", "subject", "wanted"),
    [
        ("When does the Harbour Street Library open?", "Harbour Street Library", "When does the [MASK] open?"),
        ("harbour street library's hours", "Harbour Street Library", "[MASK]'s hours"),
        ("Who leads Café Müller? cafe muller!", "Café Müller", "Who leads [MASK]? [MASK]!"),
        ("Who leads it?", "Café Müller", "Who leads it?"),
        ("Who leads it?", None, "Who leads it?"),
    ],
)
def test_the_subject_is_masked_wherever_it_stands(text, subject, wanted):
    assert masked(text, subject) == wanted


def test_places_do_not_overlap():
    assert places("a a", "a a a a") == [(0, 3), (4, 7)]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("library", "libary", True),
        ("library", "librray", True),
        ("tessaly", "tesaly", True),
        ("library", "libraries", False),
        ("corlett", "corbett", True),  # one letter: the network has to tell names from typing errors
        ("x2", "x3", False),
        ("brca1", "brca2", False),
        ("port", "part", False),
    ],
)
def test_words_are_alike_within_one_letter(first, second, same):
    assert alike(first, second) is same


def test_a_part_of_the_name_is_masked():
    text = "quillbase staging db port?"
    share, hidden = partly_named("Quillbase staging database", words(text), text)
    assert 0.5 < share < 0.8
    assert hidden == "[MASK] db port?"
    assert partly_named("Mill Library", words("who opened it"), "who opened it") == (0.0, "who opened it")


def test_a_long_text_is_cut_down_to_the_subjects_sentence():
    noise = "The harvest was late that year and nobody knew why it had rained so much in the valley."
    text = f"{noise} {noise} {noise} When does the [MASK] open? {noise} {noise}"
    assert "When does the [MASK] open?" in focused(text)
    assert len(focused(text).split()) <= 48
    assert focused("When does the [MASK] open?") == "When does the [MASK] open?"


def test_a_talk_is_read_with_its_subject_masked():
    turns = ["I want to visit the Mill Library.", "A fine choice.", "When does it open?"]
    assert (
        told(TURN.join(turns), "Mill Library") == "I want to visit the [MASK]. || A fine choice. || When does it open?"
    )
    assert told(TURN.join(turns), "Harbour Library") is None
    assert told("When does the Mill Library open?", "Mill Library") is None, "no earlier turn names it"


@pytest.mark.parametrize(
    ("query", "prompt", "apart"),
    [
        ("Who won the Cup in 2020?", "Who won the Cup in 2021?", True),
        ("revenue of Umbra in q1 2024", "What was Umbra's revenue in Q2 2024?", True),
        ("ferry on Tuesdays?", "When does the ferry leave on Mondays?", True),
        ("release of Fathom 5.3", "When was Fathom 5.2 released?", True),
        ("Who won in 2020 and 2021?", "Who won the Cup in 2021?", False),
        ("Who won the Cup?", "Who won the Cup in 2021?", False),
        ("parking from 2 to 5?", "Since March 2026 parking costs", False),
        ("yoga on Tuesday", "What time is yoga on Tuesdays?", False),
    ],
)
def test_texts_of_other_times_and_versions_disagree(query, prompt, apart):
    assert disagree(query, prompt) is apart


def test_most_of_a_name_will_do_in_a_talk_and_a_little_will_not():
    turns = ["I could move to Nimbus Pro.", "how much would that be per month?"]
    assert told(TURN.join(turns), "Nimbus Pro plan").startswith("I could move to [MASK].")
    assert told(TURN.join(["I'm on Nimbus Basic.", "how much is it?"]), "Nimbus Pro plan") is None


def test_an_old_turn_that_names_the_subject_is_kept_and_others_go():
    turns = ["You answer for the Mill Library.", *(f"turn {n}" for n in range(30)), "and when does it close?"]
    found = told(TURN.join(turns), "Mill Library").split(" || ")
    assert found[0] == "You answer for the [MASK]."
    assert found[-1] == "and when does it close?"
    assert len(found) <= 6


@pytest.mark.parametrize(
    ("subject", "query", "expected"),
    [
        ("Ferrowing regional flights", "bags on Ferrowing Atlantic flights?", True),
        ("Ferrowing regional flights", "how heavy on a Ferrowing regional flight", False),
        ("Ferrowing regional flights", "ferrowing regional max bag weight", False),
        ("Marrow Street library", "When does the Elm Street library close?", True),
        ("Marrow Street library", "libary on marrow street closing time", False),
        ("Quillbase staging database", "which port has Quillbase 7 in production?", True),
        ("Summerfield allotments", "Summerfield, what's the code?", False),
        ("Peru", "Who rules Chile?", False),
        ("Joe Gaspar", "Where did Joseph Alan Gaspar die?", False),  # a given name in full
        ("Joe Gaspar", "Where did Peter Gaspar die?", True),
        ("Kestrel X2", "Who sells the Kestrel X3?", True),
        ("Clement X", "Clement holds the title of", True),  # a ruler without the number
        ("Clement X", "Clemens X holds the title of", False),
    ],
)
def test_a_part_of_a_name_beside_another_name_is_another_thing(subject, query, expected):
    assert renamed(subject, words(query), query) is expected


def test_a_weekday_or_month_is_no_name_that_texts_share():
    asked = "When does the British Museum close on Fridays in May?"
    assert not shares_name("When does the Harbour Street Library close on Fridays in May?", words(asked))
    assert shares_name("What did the British Council decide?", words(asked))


_PROMPT = "Which port does the Quillbase staging database listen on?"


@pytest.mark.parametrize(
    ("subject", "query", "wanted"),
    [
        ("Quillbase staging database", "quillbase staging db port?", "[MASK] port?"),
        ("Quillbase staging database", "port of staging database Quillbase", "port of [MASK]"),
        ("Quillbase staging database", "the quilbase staging datbase port", "the [MASK] port"),
        ("Quillbase staging database", "the quilbase port", None),  # a part has to be spelt right
        ("Quillbase staging database", "quillbase production port?", None),
        ("Quillbase staging database", "which port has the staging database of Umbra?", None),
        ("Alpha Quillbase A", "how old is Alpha Quillbase B?", None),
        ("Quillbase North", "who was Quillbase of Mainz?", None),
        ("hoovering the stairs", "how often is hoovering the lounge due?", None),
        ("Quillbase database", "Qaillbase database", None),  # one letter in another's place makes another name
        ("tarpley library", "can we run tarpley with that?", "can we run [MASK] with that?"),
        ("tarpley library", "which library do we need?", None),
        ("2023 Quillbase regatta", "who won at Quillbase in the 2023 regatta", "who won at [MASK]"),
        ("Peru", "who rules chile", None),
        ("The Quillbase", "Qb. Merlin premieres on", None),  # consonants alone are no name
        ("Quillbase database", "port of Quillbase db", "port of [MASK]"),
    ],
)
def test_a_subject_is_named_outright_by_its_rare_words_and_all_of_them(subject, query, wanted):
    found = named_outright(subject, _PROMPT, words(query), query, {"quillbase", "quilbase", "tarpley"}.__contains__)
    assert (found and found[1]) == wanted
    assert found is None or query[slice(*found[0])] not in wanted


def test_a_number_alone_is_no_name_that_texts_share():
    assert not shares_name("What was the fee at Port Havel in 2015?", words("Who was the head of Mirelle in 2015?"))


@pytest.mark.parametrize(
    ("query", "subject", "longer"),
    [
        ("What is the breed of Luna II?", "Luna", True),
        ("Who is the editor of Teen Vogue?", "Vogue", True),
        ("the default of log_level_file?", "log_level", True),
        ("where does my sister-in-law live?", "sister", True),
        ("Christina I of Sweden speaks the language", "Sweden", True),
        ("Which part of Sweden is the coldest?", "Sweden", False),
        ("Luna II is a sister of Luna. Where was Luna born?", "Luna", False),  # named by itself too
        ("WHO FEEDS LUNA TODAY", "Luna", False),  # capitals say nothing
        ("Who Feeds Luna Today", "Luna", False),
        ("Is Peru-based trade growing?", "Peru", False),
        ("When does Luna open?", "Luna", False),
        ("quick one: isn't Luna Persian?", "Luna", False),  # said of it
        ("Is the flash point of Luna 11 °C?", "Luna", False),
        ("Where in town is Luna II?", "Luna", True),
        ("Luna Theatre, when does it open?", "Luna", False),  # the prompt has it
    ],
)
def test_a_subject_may_be_a_part_of_a_longer_name(query, subject, longer):
    spans = places(subject, query)
    assert within_longer_name(query, words(query), spans, "When does the theatre Luna open?") is longer


@pytest.mark.parametrize(
    ("subject", "text", "other"),
    [
        ("Marie Curie", "Когда родилась Мария Кюри?", True),
        ("Marie Curie", "マリ・キュリーはいつ生まれましたか?", True),
        ("Marie Curie", "Wann wurde Marie Curie geboren?", False),
        ("東京タワー", "東京タワーはどこ?", False),
        ("東京タワー", "Where is Tokyo Tower?", True),
        ("Abendrot", "Is Мир open?", False),
        ("42", "где это?", False),
    ],
)
def test_a_text_in_another_script_than_a_subject(subject, text, other):
    assert other_script(subject, text) == other
