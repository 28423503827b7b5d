"""The packaged all-MiniLM-L6-v2."""

import subprocess
import sys

import numpy as np
import pytest

from memedit.encoders import find_encoder, load_encoder
from memedit.encoders.sentence import SentenceEncoder
from memedit.errors import ModelNotFoundError

pytestmark = pytest.mark.integration
TEXTS = [
    "What is the twin city of Wellington? It is",
    "hi",
    "",
    "日本の首都は東京です",
    "word " * 600,
    "a\0b",
    "Zoë's café",
]


@pytest.fixture(scope="module")
def minilm() -> SentenceEncoder:
    try:
        return load_encoder("minilm")
    except ModelNotFoundError as error:
        pytest.skip(str(error))


def test_vectors_equal_those_of_sentence_transformers(minilm: SentenceEncoder) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(find_encoder("minilm")), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(minilm.encode(TEXTS), theirs, atol=1e-5)
    np.testing.assert_allclose(np.stack([e.vector for e in minilm.encode_tokens(TEXTS)]), theirs, atol=1e-5)


def test_looking_up_imports_no_library_that_holds_every_model(minilm: SentenceEncoder) -> None:
    code = (
        "import sys\n"
        "from memedit.memory import EditMemory\n"
        "from memedit.runtime import Router\n"
        "from memedit.scope import load_scope\n"
        "memory = EditMemory(encoder='minilm')\n"
        "memory.add('The mayor of Oslo is', 'Ann', subject='Oslo')\n"
        "scopes = [load_scope(name, memory.encoder) for name in ('subject', 'default')]\n"
        "assert all(Router(memory, scope).decide(['Who is the mayor of Oslo?'])[0].fired for scope in scopes)\n"
        "heavy = {'sentence_transformers', 'transformers.modeling_utils', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_it_is(minilm: SentenceEncoder) -> None:
    assert (minilm.name, minilm.dimension, minilm.max_tokens) == ("minilm", 384, 256)


def test_paraphrases_are_nearer_than_other_questions(minilm: SentenceEncoder) -> None:
    a, b, c = minilm.encode(
        ["Who is the mayor of Oslo?", "The head of Oslo's city government is", "How do fish sleep?"]
    )
    assert a @ b > 0.5 > a @ c


def test_spans_point_at_the_words(minilm: SentenceEncoder) -> None:
    encoding = minilm.encode_tokens(["Who is Zoë's boss?"])[0]
    assert [encoding.text[a:b] for a, b in encoding.spans] == ["Who", "is", "Zoë", "'", "s", "boss", "?"]
