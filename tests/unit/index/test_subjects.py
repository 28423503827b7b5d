"""SubjectIndex against a slow scan, and what counts as standing in a text."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import InputError
from memedit.index import SubjectIndex, SubjectMatch
from memedit.index.words import words


def index_of(*subjects: str) -> SubjectIndex:
    index = SubjectIndex()
    index.add_many(enumerate(subjects))
    return index


def found(index: SubjectIndex, text: str) -> list[tuple[int, str]]:
    return [(match.id, text[match.start : match.end]) for match in index.find(text)]


@pytest.mark.parametrize(
    ("subject", "text", "span"),
    [
        ("Wellington", "The twin city of wellington is", "wellington"),
        ("Beyoncé", "BEYONCE's mother", "BEYONCE"),
        ("Macy's", "Who owns Macys or Macy’s?", "Macy"),
        ("The Beatles", "a beatles song", "beatles"),
        ("Mercury (planet)", "Mercury's mass", "Mercury"),
        ("J. R. R. Tolkien", "who was J.R.R. Tolkien?", "J.R.R. Tolkien"),
        ("Jean-Claude Juncker", "jean claude juncker", "jean claude juncker"),
        ("東京", "東京の人口", "東京"),
        ("スティーブ・ジョブズ", "スティーブ・ジョブズは", "スティーブ・ジョブズ"),
        ("서울", "수도는 서울입니까", "서울"),
        ("กรุงเทพ", "เมืองกรุงเทพอยู่", "กรุงเทพ"),
        ("القاهرة", "أين تقع القاهرة؟", "القاهرة"),
        ("It", "Who wrote the novel It?", "It"),
        ("WHO", "Where does the WHO sit?", "WHO"),
        ("R&B", "What is R and B?", "R and B"),
    ],
)
def test_found(subject: str, text: str, span: str) -> None:
    assert (0, span) in found(index_of(subject), text)


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Wellington", "Wellingtons are boots"),
        ("The Who", "Who is it? And who else?"),
        ("It", "It is raining, is it?"),
        ("서울", "한서울은"),
        ("王", "国王陛下"),
        ("アメリカ", "ラテンアメリカの国"),
        ("Paris Hilton", "I love Paris.\nHilton is a hotel."),
        ("!!!", "What now!!!"),
        ("Rome", ""),
    ],
)
def test_not_found(subject: str, text: str) -> None:
    assert index_of(subject).find(text) == []


def test_the_longest_of_nested_matches_wins_and_others_stay() -> None:
    index = index_of("Wellington", "Duke of Wellington", "Wellington Boot Company")
    text = "the Duke of Wellington Boot Company near Wellington"
    assert found(index, text) == [
        (1, "Duke of Wellington"),
        (2, "Wellington Boot Company"),
        (0, "Wellington"),
    ]


def test_one_subject_of_several_edits_gives_all_of_them() -> None:
    index = index_of("Oslo", "oslo", "ÖSLO")
    assert [id for id, _ in found(index, "Where is Oslo?")] == [0, 1, 2]


def test_add_replaces_and_remove_forgets() -> None:
    index = index_of("Oslo", "Bergen")
    index.add(0, "Tromsø")
    assert found(index, "Oslo, Bergen, Tromso") == [(1, "Bergen"), (0, "Tromso")]
    index.remove(0)
    index.remove(99)
    assert found(index, "Oslo, Bergen, Tromso") == [(1, "Bergen")]
    assert len(index) == 1
    assert 1 in index
    assert 0 not in index


def test_bad_input_is_typed() -> None:
    with pytest.raises(InputError, match="string"):
        SubjectIndex().add("x", "Oslo")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="string"):
        SubjectIndex().add(1, None)  # type: ignore[arg-type]


NAMES = st.lists(st.sampled_from(["ada", "bo", "cy", "dee"]), min_size=1, max_size=3).map(" ".join)


@given(st.lists(NAMES, max_size=12), st.lists(st.sampled_from(["ada", "bo", "cy", "dee", "x"]), max_size=14))
def test_equals_a_slow_scan(subjects: list[str], tokens: list[str]) -> None:
    text = " ".join(tokens)
    spans = []
    for id, subject in enumerate(subjects):
        size = len(subject.split())
        for i in range(len(tokens) - size + 1):
            if tokens[i : i + size] == subject.split():
                spots = words(text)
                spans.append((spots[i].start, spots[i + size - 1].end, id))
    outermost = [
        s for s in spans if not any(o[0] <= s[0] and s[1] <= o[1] and (o[0], o[1]) != (s[0], s[1]) for o in spans)
    ]
    assert index_of(*subjects).find(text) == [SubjectMatch(i, a, b) for a, b, i in sorted(outermost)]


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), NAMES)), max_size=30))
def test_any_order_of_adding_and_removing_equals_a_fresh_index(steps: list[tuple[int, str | None]]) -> None:
    index, kept = SubjectIndex(), {}
    for id, subject in steps:
        if subject is None:
            index.remove(id)
            kept.pop(id, None)
        else:
            index.add(id, subject)
            kept[id] = subject
    fresh = SubjectIndex()
    fresh.add_many(kept.items())
    text = "ada bo cy dee ada dee bo"
    assert index.find(text) == fresh.find(text)
    assert len(index) == len(kept)


@given(st.text(max_size=100), st.text(max_size=30))
def test_any_text_is_safe(text: str, subject: str) -> None:
    for match in index_of(subject).find(text):
        assert 0 <= match.start < match.end <= len(text)


def test_time_grows_with_the_text_not_with_the_subjects() -> None:
    small, large = SubjectIndex(), SubjectIndex()
    small.add_many((i, f"name{i} family{i}") for i in range(50))
    large.add_many((i, f"name{i} family{i}") for i in range(20_000))
    text = "what does name7 family7 do for a living " * 20

    def best(index: SubjectIndex) -> float:
        times = []
        for _ in range(7):
            start = time.process_time()
            index.find(text)
            times.append(time.process_time() - start)
        return min(times)

    assert best(large) < 10 * best(small)


def test_finding_while_others_add_and_remove() -> None:
    index = index_of("Oslo")
    stop = threading.Event()
    errors: list[BaseException] = []

    def churn() -> None:
        try:
            while not stop.is_set():
                index.add(7, "Oslo")
                index.remove(7)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(300):
            assert {match.id for match in index.find("in Oslo")} - {7} == {0}
    finally:
        stop.set()
        thread.join()
    assert not errors


def test_many_at_once_are_as_one_by_one():
    pairs = [(1, "The Beatles"), (2, "Beatles"), (3, "Mercury (planet)"), (1, "Mercury"), (4, "..."), (5, "Mercury")]
    whole, single = SubjectIndex(), SubjectIndex()
    whole.add_many(pairs)
    for id, subject in pairs:
        single.add(id, subject)
    for text in ("the Beatles on Mercury", "beatles", "Mercury's mass"):
        assert whole.find(text) == single.find(text)
    assert [set(whole.named(name)) for name in ("Mercury", "Beatles")] == [{1, 3, 5}, {2}]
    assert len(whole) == len(single) == 4
    for index in (whole, single):
        index.remove(1)
        index.add_many([(6, "Venus")])
    assert whole.find("Mercury and Venus") == single.find("Mercury and Venus")
    with pytest.raises(InputError, match="string under an integer"):
        SubjectIndex().add_many([("1", "Venus")])
