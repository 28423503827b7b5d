"""How the tagger's scores become a subject and a value, on weights that read the answer off the token vectors."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import ModelError
from memedit.index.subject_tagging import (
    FEATURES,
    SUBJECT,
    VALUE,
    Reading,
    SubjectTagger,
    load_tagger,
    tagger_for,
    token_features,
)
from memedit.types import Encoding

PIECE = re.compile(r"\w{1,4}|[^\w\s]")


def plain_tagger() -> SubjectTagger:
    """Takes the three coordinates of a token vector for its logits."""
    inward = np.zeros((3, 3 + FEATURES), dtype=np.float32)
    inward[:, :3] = np.eye(3)
    zeros = np.zeros((3, 3, 3), dtype=np.float32)
    return SubjectTagger(
        {
            "in.weight": inward,
            "in.bias": np.zeros(3, dtype=np.float32),
            "context.weight": np.zeros((3, 3), dtype=np.float32),
            "context.bias": np.zeros(3, dtype=np.float32),
            "first.weight": zeros,
            "first.bias": np.zeros(3, dtype=np.float32),
            "second.weight": zeros,
            "second.bias": np.zeros(3, dtype=np.float32),
            "out.weight": np.eye(3, dtype=np.float32),
            "out.bias": np.zeros(3, dtype=np.float32),
        }
    )


def encoded(text: str, **labels: str) -> Encoding:
    """``text`` in pieces of words, with logits for subject and value where these words stand."""
    spans = tuple(match.span() for match in PIECE.finditer(text))
    logits = np.zeros((len(spans), 3), dtype=np.float32)
    logits[:, 0] = 4.0
    for name, label in (("subject", SUBJECT), ("value", VALUE)):
        for word in labels.get(name, "").split("|"):
            at = text.index(word)
            for i, (start, end) in enumerate(spans):
                if word and at <= start and end <= at + len(word):
                    logits[i] = 0.0
                    logits[i, label] = 4.0
    return Encoding(text, np.zeros(3, dtype=np.float32), logits, spans)


def test_subject_value_and_what_is_left() -> None:
    text = "The mayor of Tolburia is Ana Brill."
    reading = plain_tagger().read(encoded(text, subject="Tolburia", value="Ana Brill"))
    assert (reading.subject, reading.value) == ("Tolburia", "Ana Brill")
    assert reading.relation == "The mayor of … is"


def test_a_word_is_never_cut() -> None:
    tagger = plain_tagger()
    encoding = encoded("Who runs Lindqvist today?")
    pieces = [encoding.text[a:b] for a, b in encoding.spans]
    for piece in ("Lind", "qvis"):  # the last piece of the name is not recognised
        encoding.tokens[pieces.index(piece)] = (0.0, 5.0, 0.0)
    assert tagger.read(encoding).subject == "Lindqvist"
    assert tagger.read(encoded("Where is Baden-Baden", subject="Baden")).subject == "Baden-Baden"
    assert tagger.read(encoded("Is Mercury (planet) hot", subject="Mercury (planet")).subject == "Mercury (planet)"


def test_a_name_goes_on_in_the_next_capitalised_word_and_has_no_article() -> None:
    tagger = plain_tagger()
    assert tagger.read(encoded("She works at Lumen Labs as a nurse", subject="Lumen")).subject == "Lumen Labs"
    assert tagger.read(encoded("Lumen labs", subject="Lumen")).subject == "Lumen"
    assert tagger.read(encoded("La capitale de la France est", subject="la France")).subject == "France"
    assert tagger.read(encoded("the code at Arn & Sons", subject="at Arn & Sons")).subject == "Arn & Sons"
    assert tagger.read(encoded("Who wrote The Orchard", subject="The Orchard")).subject == "The Orchard"


@pytest.mark.parametrize("nothing", ["I", "1957", "Who", "the", "12 90", "my", "Q3 2025", "May"])
def test_what_names_nothing_is_no_subject(nothing: str) -> None:
    text = f"so {nothing} left Ghent"
    assert plain_tagger().read(encoded(text, subject=nothing)).subject is None
    assert plain_tagger().read(encoded(text, subject=f"{nothing}|Ghent")).subject == "Ghent"


def test_the_target_is_not_the_subject() -> None:
    encoding = encoded("Paris is the home of Maria", subject="Paris|Maria")
    assert plain_tagger().read(encoding, target="paris").subject == "Maria"
    assert plain_tagger().read(encoding).subject == "Paris"


def test_scripts_without_spaces() -> None:
    text = "東京の人口は多い"
    spans = tuple((i, i + 1) for i in range(len(text)))
    tokens = np.tile(np.array([4.0, 0.0, 0.0], dtype=np.float32), (len(text), 1))
    tokens[:2] = (0.0, 4.0, 0.0)
    assert plain_tagger().read(Encoding(text, np.zeros(3, np.float32), tokens, spans)).subject == "東京"


@given(st.text(max_size=60), st.randoms(use_true_random=False))
def test_spans_are_whole_and_apart(text: str, rng: object) -> None:
    spans = tuple(match.span() for match in PIECE.finditer(text))
    tokens = np.array([[rng.uniform(-5, 5) for _ in range(3)] for _ in spans], dtype=np.float32)  # type: ignore[attr-defined]
    reading = plain_tagger().read(Encoding(text, np.zeros(3, np.float32), tokens.reshape(-1, 3), spans))
    for span in (reading.subject_span, reading.value_span):
        assert span is None or (0 <= span[0] < span[1] <= len(text) and text[slice(*span)].strip())
    if reading.subject_span and reading.value_span:
        (_, end), (start, _) = sorted((reading.subject_span, reading.value_span))
        assert end <= start


def test_features_see_the_original_text() -> None:
    text = 'Is "Lumen" 42 big?'
    spans = tuple(match.span() for match in PIECE.finditer(text))
    features = token_features(text, spans)
    assert features.shape == (len(spans), FEATURES)
    pieces = [text[a:b] for a, b in spans]
    lumen, n, number = pieces.index("Lume"), pieces.index("n"), pieces.index("42")
    assert features[lumen, 0] == features[n, 0] == 1.0, "the case of a word holds for all its pieces"
    assert features[lumen, 4] == 1.0
    assert features[number, 2] == 1.0
    assert not np.array_equal(features, token_features(text.lower(), spans))


def test_damaged_or_foreign_weights(tmp_path: object) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_tagger(tmp_path)  # type: ignore[arg-type]
    assert tagger_for("another encoder") is None
    assert Reading("x", None, None).subject is None
