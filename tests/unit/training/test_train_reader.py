"""Training the reader on a tiny model: deterministic, resumable, and it learns."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from memedit.adapters.reader.weights import RECORD, WEIGHTS, load_reader
from memedit.errors import DatasetError, InputError
from memedit.evaluation.datasets.splits import is_training_row
from memedit.models import LoadedModel, model_fingerprint
from memedit.training.facts import Fact, Prose, read_facts, read_prose
from memedit.training.reader.batches import Encoded, base_continuations
from memedit.training.reader.examples import ExampleMaker, Mixture
from memedit.training.reader.run import load_training_data, reader_trainer, train_reader
from memedit.training.reader.trainer import ReaderSettings
from memedit.training.reader.world import world_facts
from support.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

NAMES = ["Ada", "Bo", "Cleo", "Dov", "Eva", "Finn", "Gil", "Hana", "Ivo", "Jun", "Kai", "Lea"]
SETTINGS = ReaderSettings(
    rank=2, steps=6, batch=4, warmup=2, dtype="float32", first_layer=1, learning_rate=5e-3, world=2
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "mills.jsonl"
    rows = [
        {
            "prompt": f"The mill of {name} is run by",
            "target_new": NAMES[i - 3],
            "subject": name,
            "rephrase_prompt": f"Who runs the mill of {name}?",
            "locality_prompt": f"The lake of {name} is",
        }
        for i, name in enumerate(NAMES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    return LoadedModel(model, tokenizer, "tiny", model_fingerprint(model, tokenizer))


def test_the_same_seed_gives_the_same_reader_also_through_a_kill(base: LoadedModel, data: Path, tmp_path: Path) -> None:
    whole = train_reader(base, data=[data], out=tmp_path / "a", settings=SETTINGS)

    class KilledError(Exception):
        pass

    def stop(progress) -> None:
        if progress.step == 4:
            raise KilledError

    with pytest.raises(KilledError):
        train_reader(base, data=[data], out=tmp_path / "b", settings=SETTINGS, checkpoint_every=2, progress=stop)
    seen = []
    resumed = train_reader(
        base, data=[data], out=tmp_path / "b", settings=SETTINGS, checkpoint_every=2, progress=seen.append
    )
    assert [p.step for p in seen] == [5, 6]
    assert seen[-1].seconds_left == 0
    assert resumed.losses == pytest.approx(whole.losses[4:], rel=1e-5)
    first, second = load_file(tmp_path / "a" / WEIGHTS), load_file(tmp_path / "b" / WEIGHTS)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = ReaderSettings(**{**settings_dict(), "seed": 1})
    train_reader(base, data=[data], out=tmp_path / "c", settings=other)
    third = load_file(tmp_path / "c" / WEIGHTS)
    assert any(not torch.equal(first[name], third[name]) for name in first)


def settings_dict() -> dict:
    return {name: getattr(SETTINGS, name) for name in SETTINGS.__slots__}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_the_loss_is_the_cross_entropy_of_the_answer_under_the_whole_model(family: str, tmp_path: Path) -> None:
    model, tokenizer = tiny_model(family), tiny_tokenizer()
    settings = ReaderSettings(**{**settings_dict(), "world": 0})
    facts = [Fact("The mill is run by", "Bo", ("Who runs the mill?",))]
    loaded = LoadedModel(model, tokenizer, "tiny", "print")
    run, _ = reader_trainer(loaded, settings, facts, Prose())
    examples = [Encoded((5, 6, 7, 8), (9, 10, 11)), Encoded((12, 13), (14,))]
    found = run._loss(examples)
    wanted = 0.0
    for example in examples:
        ids = torch.tensor([[*example.prompt, *example.answer]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, len(example.prompt) - 1 : -1].log_softmax(-1)
        losses = -logits.gather(1, torch.tensor(example.answer)[:, None])
        wanted += float(losses.sum()) / math.sqrt(len(example.answer))
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-4)  # the LoRA starts at zero
    before = [float(found.detach()), *(run.step(n) for n in range(2))]
    assert all(math.isfinite(value) for value in before)


def test_training_leaves_the_base_alone_and_lowers_the_loss(base: LoadedModel, data: Path, tmp_path: Path) -> None:
    tasks = {"direct": 1.0, "ask": 0.0, "hop": 0.0, "off_topic": 0.0, "unrelated": 0.0}
    mixture = Mixture(tasks=tasks, other_target=0.0, distractors=0.0, chat=0.0, question_form=0.0, lower_case=0.0)
    settings = ReaderSettings(**{**settings_dict(), "steps": 30, "mixture": mixture, "learning_rate": 2e-2, "world": 0})
    report = train_reader(base, data=[data], out=tmp_path / "r", settings=settings)
    assert model_fingerprint(base.model, base.tokenizer) == base.fingerprint
    assert sum(report.losses[-5:]) < 0.8 * sum(report.losses[:5])
    reader = load_reader(tmp_path / "r", base.model, base.tokenizer)
    assert {name.split(".")[2] for name in reader.terms} == {"1", "2"}
    record = json.loads((tmp_path / "r" / RECORD).read_text())
    assert record["training"]["base"] == base.fingerprint
    assert record["training"]["settings"]["steps"] == 30


def test_a_checkpoint_of_another_run_is_refused(base: LoadedModel, data: Path, tmp_path: Path) -> None:
    def stop(progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_reader(base, data=[data], out=tmp_path / "r", settings=SETTINGS, checkpoint_every=1, progress=stop)
    other = ReaderSettings(**{**settings_dict(), "seed": 3})
    with pytest.raises(InputError, match="other settings"):
        train_reader(base, data=[data], out=tmp_path / "r", settings=other)


def test_only_the_training_half_is_learned_from(data: Path) -> None:
    half, _ = load_training_data([data])
    whole, _ = load_training_data([], whole=[data])
    first, _ = load_training_data([], whole=[f"{data}:5"])
    assert [f.prompt for f in half] == [f.prompt for f in whole if is_training_row(f.prompt)]
    assert 0 < len(half) < len(whole) == len(NAMES)
    assert len(first) == 5


def test_unusable_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        load_training_data([tmp_path / "missing.jsonl"])
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "target": "b"}\n{"colour": 1}\n')
    with pytest.raises(DatasetError, match="line 2"):
        read_facts(bad)
    bad.write_text("{nonsense\n")
    with pytest.raises(DatasetError, match="line 1"):
        read_facts(bad)
    with pytest.raises(InputError, match="rank"):
        ReaderSettings(rank=0)


@pytest.mark.data
def test_every_published_format_is_read(data_dir: Path) -> None:
    for path in sorted(data_dir.glob("*_dev.jsonl")):
        if path.name.startswith(("wikibio", "real_life", "talks", "fact_consolidation")):  # not rows of edits
            continue
        facts = read_facts(path)
        assert facts, path
        assert all(fact.prompt and fact.target for fact in facts), path
        assert any(fact.asks for fact in facts), path
    prose = read_prose(data_dir / "wikitext2_valid.txt")
    assert len(prose.passages) > 100
    assert "<unk>" not in prose.passages[0].target


def test_exercises_depend_on_their_number_alone() -> None:
    facts = [Fact(f"The mill of {n} is run by", "Bo", (f"Who runs {n}?",), off_topic=(f"{n} is",)) for n in NAMES]
    prose = Prose(sentences=("It rained for most of the week.", "Nobody had seen the boat.", "So they left early."))
    first = ExampleMaker(facts, prose, chat=True, seed=1)
    second = ExampleMaker(facts, prose, chat=True, seed=1)
    forwards = [first.draw(n) for n in range(60)]
    backwards = [second.draw(n) for n in reversed(range(60))]
    assert forwards == backwards[::-1]
    assert {None, "Bo"} <= {e.answer for e in forwards}
    assert all(e.answer is None or e.answer in {target for _, target in e.edits} for e in forwards)
    assert any(e.messages for e in forwards)
    assert all(not e.messages or e.messages[-1]["content"] == e.query for e in forwards)
    no_chat = ExampleMaker(facts, prose, chat=False, seed=1)
    assert not any(no_chat.draw(n).messages for n in range(60))


def test_a_single_fact_can_be_drawn_from() -> None:
    maker = ExampleMaker([Fact("The mill is run by", "Bo", ("Who runs it?",))], Prose(), chat=False, seed=0)
    assert all(maker.draw(n).answer is not None for n in range(50))


def test_made_up_facts_have_true_consequences() -> None:
    facts = world_facts(40, seed=3)
    assert facts == world_facts(40, seed=3) != world_facts(40, seed=4)
    canadian = next(f for f in world_facts(400, seed=0) if f.target == "Canada")
    assert {"Ottawa", "Canadian dollar", "English", "North America"} == {answer for _, answer in canadian.hops}
    assert all(f.prompt not in f.asks and f.hops for f in facts)
    for fact in world_facts(400, seed=1):
        for question, answer in fact.hops:
            if " father of " in question or " wife of " in question:
                assert answer == ("male" if " father of " in question else "female")
            if question.startswith("The occupation of the director"):
                assert answer == "film director"


def test_training_goes_on_from_a_reader_and_refuses_one_of_another_shape(
    base: LoadedModel, data: Path, tmp_path: Path
) -> None:
    first = train_reader(base, data=[data], out=tmp_path / "first", settings=SETTINGS)
    still = replace(SETTINGS, steps=1, learning_rate=1e-9)
    train_reader(base, data=[data], out=tmp_path / "same", settings=still, start=tmp_path / "first")
    trained, same = load_file(tmp_path / "first" / WEIGHTS), load_file(tmp_path / "same" / WEIGHTS)
    assert all(torch.equal(trained[name], same[name]) for name in trained), "a step of no length changes nothing"
    more = train_reader(base, data=[data], out=tmp_path / "more", settings=SETTINGS, start=tmp_path / "first")
    assert more.losses[0] == pytest.approx(_first_loss(base, data, tmp_path, first.folder), rel=1e-3)
    with pytest.raises(InputError, match=r"the settings that it was trained with"):
        train_reader(base, data=[data], out=tmp_path / "x", settings=replace(SETTINGS, rank=4), start=first.folder)


def _first_loss(base: LoadedModel, data: Path, tmp_path: Path, folder: Path) -> float:
    """Return the loss of the first step's exercises under a reader as its files say."""
    run, _ = reader_trainer(base, SETTINGS, *load_training_data([data]))
    for name, term in load_reader(folder, base.model, base.tokenizer).terms.items():
        run.parameters[f"{name}.down"].data.copy_(term.down)
        run.parameters[f"{name}.up"].data.copy_(term.up / (SETTINGS.alpha / SETTINGS.rank))
    return run.step(0)


def test_base_continuations_are_the_base_models_own(base: LoadedModel) -> None:
    prompts = [base.tokenizer(text)["input_ids"] for text in ("The mill", "A much longer prompt than that", "x")]
    found = base_continuations(base.model, prompts, pad=base.tokenizer.pad_token_id, tokens=5, top_k=4, batch=2)
    for prompt, (ids, (top, probabilities)) in zip(prompts, found, strict=True):
        alone = base.model.generate(torch.tensor([prompt]), max_new_tokens=5, do_sample=False)[0, len(prompt) :]
        assert list(ids) == alone.tolist()
        assert top[:, 0].tolist() == list(ids)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(len(ids)))
