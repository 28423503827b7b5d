"""The NumPy head computes what the trained PyTorch head computes."""

import numpy as np
import torch
from scope_bench import Bench

from memedit.scope.classifier.batch import query_side, stack_edits
from memedit.scope.classifier.features import FEATURES, compare
from memedit.scope.classifier.head import head_logits
from memedit.scope.classifier.views import edit_view, find_span, text_view
from memedit.scope.classifier.vocabulary import WordRarity
from memedit.workflows.scope_training.network import Head, HeadSize, TensorBatch

RARITY = WordRarity({"the": 90, "of": 80, "is": 85}, 100)


def compared(text):
    bench = Bench()

    def view(words, letters=True):
        encoding = bench.encoder.encode_tokens([words])[0]
        spans = np.array(encoding.spans, np.int64).reshape(-1, 2)
        return text_view(words, encoding.tokens, spans, RARITY, letters=letters)

    edits = [
        bench.edit("The capital of Peru is", "Cusco", subject="Peru"),
        bench.edit("The anthem of Peru is", "La", subject="Peru"),
        bench.edit("Who sings the song called Blue Moon in the film?", subject="Blue Moon"),
        bench.edit("When?", subject=None),
    ]
    stacked = stack_edits([edit_view(edit, view(edit.prompt, letters=False), RARITY) for edit in edits])
    query = query_side(view(text), [find_span(text, edit.subject) for edit in edits])
    similarity = np.array([0.9, 0.8, 0.1, 0.0], np.float32)
    return query, stacked, compare(query, stacked, similarity, [edit.subject for edit in edits])


def test_numpy_and_torch_agree():
    query, edits, comparison = compared("Noise before it. Tell me which city is the capital of Peru")
    torch.manual_seed(0)
    head = Head(HeadSize(projection=48, width=8, hidden=12)).eval()
    head.feature_mean.normal_()
    head.feature_scale.uniform_(0.5, 2.0)
    tokens = np.broadcast_to(query.view.tokens, (4, *query.view.tokens.shape)).copy()
    arrays = (comparison.features, tokens, comparison.query_tokens, edits.tokens, comparison.edit_tokens)
    with torch.inference_mode():
        expected = head(TensorBatch(*(torch.from_numpy(array) for array in arrays))).numpy()
    np.testing.assert_allclose(head_logits(head.arrays(), query, edits, comparison), expected, atol=1e-5)


def values(text):
    _, _, comparison = compared(text)
    return [dict(zip(FEATURES, row, strict=True)) for row in comparison.features]


def test_features_say_what_their_names_say():
    asked, other, song, _ = values("Tell me the capital of Peru")
    assert (asked["subject_stands"], song["subject_stands"]) == (1.0, 0.0)
    assert asked["relation_words"] > other["relation_words"]
    assert asked["relation_sim_mean"] > other["relation_sim_mean"]
    assert asked["other_relation"] < 0 < other["other_relation"]
    assert asked["similarity_margin"] == 0.0 > other["similarity_margin"]


def test_negation_hypotheses_questions_and_the_target_are_seen():
    plain, negated, supposed = (values(text)[0] for text in ("Peru is", "Peru is not", "if Peru would"))
    assert (plain["negation"], negated["negation"], plain["hypothetical"], supposed["hypothetical"]) == (0, 1, 0, 1)
    assert values("What is Peru")[0]["question_query"] == 1.0
    assert values("Peru, which is not Cusco, is")[0]["target_in_query"] == 1.0


def test_misspelt_subject_counts_by_its_letters():
    right, wrong = (values(f"the capital of {name}")[0] for name in ("Peruu", "Chad"))
    assert right["subject_words"] == wrong["subject_words"] == 0.0
    assert right["subject_spelling"] > 0.5 > wrong["subject_spelling"]
