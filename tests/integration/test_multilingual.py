"""The packaged multilingual-e5-small."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from memedit.encoders import ENCODER_ALIASES, encoder_fingerprint, load_encoder
from memedit.encoders.sentence import SentenceEncoder
from memedit.memory import EditMemory
from memedit.runtime import Router
from memedit.scope import load_scope

pytestmark = pytest.mark.integration
HEAD = [
    "Who is the head of Acme?",
    "Wer leitet die Firma Acme?",
    "¿Quién dirige Acme?",
    "Кто руководит компанией Acme?",
    "Acme 的首席执行官是谁？",
    "Acme社の社長は誰ですか？",
]
OTHERS = ["How tall is Mont Blanc?", "When does the pharmacy close on Fridays?", "ما هي عاصمة النرويج؟"]


@pytest.fixture(scope="module")
def multilingual() -> SentenceEncoder:
    alias = ENCODER_ALIASES["multilingual"]
    if alias.installed_files() is None:
        pytest.skip(f"the packages {alias.requirement} are not installed: {alias.install}")
    return load_encoder("multilingual")


def test_what_it_is(multilingual: SentenceEncoder) -> None:
    assert (multilingual.name, multilingual.dimension, multilingual.max_tokens) == ("multilingual", 384, 512)
    assert (multilingual.folder / "manifest.json").is_file()
    assert multilingual.fingerprint == encoder_fingerprint("multilingual") != encoder_fingerprint("minilm")


def test_one_question_in_six_languages_is_nearer_to_itself_than_to_others(multilingual: SentenceEncoder) -> None:
    same, others = multilingual.encode(HEAD), multilingual.encode(OTHERS)
    assert (same @ same.T).min() > (same @ others.T).max() + 0.05


def test_spans_point_at_the_words_in_any_script(multilingual: SentenceEncoder) -> None:
    texts = ["アベンロート薬局は何時に閉まりますか？", "Who is Zoë's boss?", "  ㍻ のﾃｽﾄ ", "ร้านเปิดกี่โมง", ""]
    encodings = multilingual.encode_tokens(texts)
    spans = [[one.text[a:b] for a, b in one.spans] for one in encodings]
    assert "".join(spans[0]) == texts[0]
    assert {"薬", "局"} <= set(spans[0])
    assert spans[1] == ["Who", "is", "Zo", "ë", "'", "s", "boss", "?"]
    assert spans[2] == ["㍻", "の", "ﾃｽﾄ"]
    assert "".join(spans[3]) == texts[3]
    assert spans[4] == []
    for one in encodings:
        assert one.tokens.shape == (len(one.spans), 384)


def test_a_batch_gives_what_single_texts_give(multilingual: SentenceEncoder) -> None:
    texts = [*HEAD, *OTHERS, "", "word " * 40]
    together, tokens = multilingual.encode(texts), multilingual.encode_tokens(texts)
    np.testing.assert_allclose(np.stack([one.vector for one in tokens]), together, atol=1e-5)
    for text, vector, batched in zip(texts, together, tokens, strict=True):
        alone = multilingual.encode_tokens([text])[0]
        np.testing.assert_allclose(alone.vector, vector, atol=1e-5)
        np.testing.assert_allclose(alone.tokens, batched.tokens, atol=2e-3)
        assert alone.spans == batched.spans


def test_a_memory_finds_an_edit_by_a_question_in_another_language(
    tmp_path: Path, multilingual: SentenceEncoder
) -> None:
    with EditMemory(tmp_path / "edits.db", encoder=multilingual) as memory:
        wanted = memory.add("Who is the head of Acme?", "Ada Vogt")
        memory.add("How tall is Mont Blanc?", "4,806 m")
        memory.add("When does the pharmacy close on Fridays?", "6 pm")
        for question in HEAD:
            assert memory.search(question, k=1, mode="semantic")[0][0].id == wanted.id


@pytest.fixture(scope="module")
def library(multilingual: SentenceEncoder) -> Iterator[Router]:
    with EditMemory(encoder=multilingual) as memory:
        memory.add("When does the Harbour Street Library close?", "at 8 p.m.", subject="Harbour Street Library")
        memory.add("When does the Harbour Street Library open?", "at 9 a.m.", subject="Harbour Street Library")
        yield Router(memory, load_scope("default", multilingual))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Wann schließt die Harbour Street Library?", "at 8 p.m."),
        ("Wann macht die Harbour Street Library morgens auf?", "at 9 a.m."),
        ("Harbour Street Libraryは何時に閉まりますか?", "at 8 p.m."),
        ("¿A qué hora cierra la Harbour Street Library?", "at 8 p.m."),
        ("Wem gehört die Harbour Street Library?", None),
        ("Harbour Street Library有多少本书？", None),
        ("什么是黑洞？", None),
    ],
)
def test_of_two_edits_in_english_the_one_fires_that_is_asked_for_in_another_language(
    library: Router, question: str, answer: str | None
) -> None:
    (decision,) = library.decide([question])
    assert [hit.edit.target for hit in decision.fired] == ([] if answer is None else [answer])
