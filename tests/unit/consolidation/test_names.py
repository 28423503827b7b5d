"""Names of what no edit is about: where they stand in text, and for which subject each may stand."""

import pytest

from memedit.consolidation import names
from memedit.consolidation.names import names_in, other_names
from support.consolidation_bench import WordEncoder


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("In time he met Danielle Darrieux, the actress, in Paris.", ["Danielle Darrieux", "Paris"]),
        ("It was J. R. Smith who saw it", ["J. R. Smith"]),
        ("They left. Then came the end of Notre-Dame", ["Notre-Dame"]),
        ("Robert Boulter is an actor", ["Robert Boulter"]),
        ("he saw the Rio\nGrande", ["Rio", "Grande"]),
        ("он знал, что Иван Петров жил в Łódź", ["Иван Петров", "Łódź"]),
        ("THE WHOLE LINE IS IN CAPITALS HERE", []),
        ("東京に行きました", []),
        ("12 July 99", ["July"]),
        ("", []),
    ],
)
def test_names_are_runs_of_capitalised_words(text: str, found: list[str]) -> None:
    assert list(names_in(text)) == found


def test_a_subject_gets_the_names_most_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "load_encoder", WordEncoder)
    monkeypatch.setattr(names, "NEAREST", 2)
    text = "there is Lake Como and Lake Garda, and there are Ann Lee and Ann Bee, and Lake Foo and Ann Zed"
    found = other_names(["Lake Foo", "Ann Zed", "ann lee"], [text, "and of Lake Como they say"])
    assert set(found["Lake Foo"]) == {"Lake Como", "Lake Garda"}
    assert found["Ann Zed"][0] == found["ann lee"][0] == "Ann Bee"
    assert not {"Lake Foo", "Ann Zed", "Ann Lee"} & {name for near in found.values() for name in near}


def test_without_names_or_subjects_there_is_nothing_and_no_encoder_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "load_encoder", lambda: pytest.fail("nothing is to be encoded"))
    assert other_names(["Zed"], ["no name stands here", ""]) == {}
    assert other_names([], ["we met Ann Lee"]) == {}
