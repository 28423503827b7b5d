"""The harness sees the live answerer, edits included; without the extra the message says how to get it."""

import json
from pathlib import Path

import pytest

from memedit.errors import InputError, MissingExtraError
from memedit.models import LoadedModel
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.evaluate import lm_eval_tasks
from memedit.workflows.evaluate.lm_eval_tasks import HarnessTasks, harness_model, run_tasks
from support.tiny import tiny_model, tiny_tokenizer

QUESTIONS = [{"q": f"Is {n} even?", "choices": [" yes", " no"], "label": n % 2} for n in range(8)]
TASK = """
task: parity
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{q}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def answerer() -> BareAnswerer:
    return BareAnswerer(LoadedModel(tiny_model("llama"), tiny_tokenizer(), "tiny", "f"))


def test_an_absent_harness_names_the_extra(monkeypatch: pytest.MonkeyPatch, answerer: BareAnswerer) -> None:
    monkeypatch.setattr(lm_eval_tasks.importlib.util, "find_spec", lambda name: None)
    for call in (lambda: run_tasks(answerer, HarnessTasks(("x",))), lambda: harness_model(answerer)):
        with pytest.raises(MissingExtraError, match=r"pip install 'memedit\[eval\]'"):
            call()


def test_the_manifest_gets_no_path() -> None:
    assert HarnessTasks(("a",), Path("/some/where/tasks"), 5).as_json() == {
        "names": ("a",),
        "folder": "tasks",
        "limit": 5,
    }


def test_log_likelihoods_are_the_answerers_own_in_order(answerer: BareAnswerer) -> None:
    pairs = [(q["q"], choice) for q in QUESTIONS for choice in q["choices"]]
    found = lm_eval_tasks._loglikelihoods(answerer, pairs, 3)
    for (context, target), (total, greedy) in zip(pairs, found, strict=True):
        alone = answerer.score([context], [target])[0]
        assert total == pytest.approx(sum(alone.logprobs), abs=1e-4)
        assert greedy == all(alone.matches)


def test_text_ends_before_the_stop_words(answerer: BareAnswerer) -> None:
    whole = answerer.generate(["one"], max_new_tokens=12, stop_at_newline=False)[0].text
    stop = whole[4]
    assert lm_eval_tasks._generated(answerer, "one", {"until": [stop], "max_gen_toks": 12}) == whole.split(stop)[0]


def test_a_rolling_likelihood_sums_every_word_but_the_first(answerer: BareAnswerer) -> None:
    text = "the river runs past the town"
    wanted = sum(answerer.score(["the river runs"], [" past the town"])[0].logprobs)
    assert lm_eval_tasks._rolling(answerer, text) == pytest.approx(wanted, abs=1e-3)


def test_a_task_runs_on_the_live_object(tmp_path: Path, answerer: BareAnswerer) -> None:
    pytest.importorskip("lm_eval.evaluator", reason="needs the extra 'eval'", exc_type=ImportError)
    data = tmp_path / "parity.jsonl"
    data.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    (tmp_path / "parity.yaml").write_text(TASK.replace("FILE", str(data)))
    found = run_tasks(answerer, HarnessTasks(("parity",), tmp_path))
    totals = [[sum(s.logprobs) for s in answerer.score([q["q"]] * 2, q["choices"])] for q in QUESTIONS]
    right = sum((a < b) == q["label"] for (a, b), q in zip(totals, QUESTIONS, strict=True))
    assert (found["parity"].n, found["parity"].value) == (8, pytest.approx(100 * right / 8))
    with pytest.raises(InputError, match="nonsense_task"):
        run_tasks(answerer, HarnessTasks(("nonsense_task",), tmp_path))
