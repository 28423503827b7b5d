"""The neuron memory on tiny models: located neurons, fitted values, rows apart, streams, refusals."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from memedit.adapters import create_adapter
from memedit.adapters.base import Adapter, DecodesInSteps, MixesTargets
from memedit.adapters.neurons.adapter import NeuronsAdapter
from memedit.adapters.neurons.config import NeuronConfig
from memedit.adapters.neurons.values import NeuronValues
from memedit.adapters.neurons.wordings import fitted_rows, own_texts
from memedit.errors import InputError
from memedit.memory import EditMemory
from memedit.models.neurons import last_activations
from memedit.models.prepared_tails import TailRow, prepare_tails
from memedit.models.segments import Segments
from memedit.models.spec import ModelSpec
from memedit.runtime import EditableModel
from memedit.types import Edit
from support.adapter_bench import last_logits, said
from support.hashing_encoder import HashingEncoder
from support.recipe_bench import make_edit
from support.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

EDITS = [make_edit(0), make_edit(1, "The ferry sails to", "Oss"), make_edit(2, "Ada was born in", "Bu")]
SMALL: dict[str, Any] = {"layers": (1, 2), "neurons": 24, "dtype": "model"}


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma3"])
def base(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return tiny_model(request.param), tiny_tokenizer()


@pytest.fixture(scope="module")
def adapter(base: tuple[Any, Any]) -> NeuronsAdapter:
    return NeuronsAdapter(*base, **SMALL)


@pytest.fixture(scope="module")
def blobs(adapter: NeuronsAdapter) -> dict[str, bytes]:
    return dict(adapter.prepare(EDITS))


def test_it_is_an_adapter_found_by_name(base: tuple[Any, Any], adapter: NeuronsAdapter) -> None:
    assert isinstance(adapter, Adapter)
    assert isinstance(adapter, DecodesInSteps)
    assert isinstance(adapter, MixesTargets)
    assert (adapter.name, adapter.model(), adapter.target_weight) == ("neurons", None, 0.0)
    made = create_adapter("neurons", *base, layers=[1, 2], neurons=24, dtype="model")
    assert made.fingerprint == adapter.fingerprint
    others = [{**SMALL, "neurons": 5}, {**SMALL, "locate": "random"}, {**SMALL, "target_weight": 0.5}]
    found = {create_adapter("neurons", *base, **options).fingerprint for options in others}
    assert len(found | {adapter.fingerprint}) == 4


def test_fitted_values_make_the_target_likely(base: tuple[Any, Any], adapter: NeuronsAdapter, blobs: Any) -> None:
    _, tokenizer = base
    for edit in EDITS:
        want = tokenizer(f" {edit.target}")["input_ids"][0]
        bare = last_logits(base, adapter, [edit.prompt], [()], {}).log_softmax(-1)[0, want]
        edited = last_logits(base, adapter, [edit.prompt], [(edit,)], blobs).log_softmax(-1)[0, want]
        assert edited > bare + 0.5


def test_an_artefact_holds_neurons_and_values_and_stays_small(adapter: NeuronsAdapter, blobs: Any) -> None:
    found = load(blobs["e0"])
    assert {name: (tuple(t.shape), t.dtype) for name, t in found.items()} == {
        "n": ((2, 24), torch.uint16),
        "v": ((2, 24), torch.float16),
    }
    alone = load(adapter.prepare([EDITS[1]])["e1"])
    assert torch.equal(alone["n"], load(blobs["e1"])["n"])
    torch.testing.assert_close(alone["v"], load(blobs["e1"])["v"], rtol=0.05, atol=0.05)
    published = NeuronValues(torch.arange(64).repeat(6, 1), torch.randn(6, 64))
    assert len(published.to_bytes()) <= 2048
    again = NeuronValues.parse(published.to_bytes(), (6, 64), 64, "e")
    torch.testing.assert_close(again.values, published.values, rtol=1e-3, atol=1e-3)


def test_values_of_nothing_change_nothing(base: tuple[Any, Any], adapter: NeuronsAdapter) -> None:
    nothing = NeuronValues(torch.arange(24).repeat(2, 1), torch.zeros(2, 24)).to_bytes()
    texts = ["The mill is run by", "x"]
    bare = last_logits(base, adapter, texts, [(), ()], {})
    assert torch.equal(last_logits(base, adapter, texts, [(EDITS[0],), ()], {"e0": nothing}), bare)


def test_rows_of_a_mixed_batch_equal_their_own_runs(base: tuple[Any, Any], adapter: NeuronsAdapter, blobs: Any) -> None:
    texts = ["short", "Who runs the mill?", "a much longer query about ferries", "end"]
    edits: list[tuple[Edit, ...]] = [(), (EDITS[0],), (EDITS[1], EDITS[2]), ()]
    mixed, bare = last_logits(base, adapter, texts, edits, blobs), last_logits(base, adapter, texts, [()] * 4, blobs)
    assert torch.equal(mixed[[0, 3]], bare[[0, 3]])
    assert (mixed[[1, 2]] - bare[[1, 2]]).abs().amax(1).min() > 0.1
    for i, text in enumerate(texts):
        alone = last_logits(base, adapter, [text], [edits[i]], blobs)
        torch.testing.assert_close(mixed[i : i + 1], alone, rtol=1e-4, atol=1e-4)
    assert torch.equal(last_logits(base, adapter, texts, [*edits[:2], (EDITS[1],), ()], blobs), mixed), (
        "the best edit alone"
    )


@pytest.mark.parametrize(
    "options", [{"do_sample": False}, {"num_beams": 3, "num_return_sequences": 2}, {"do_sample": False, "use_cache": 0}]
)
def test_generation_through_the_runtime_equals_each_row_alone(
    base: tuple[Any, Any], adapter: NeuronsAdapter, options: dict[str, Any]
) -> None:
    model, tokenizer = base
    prompts = ["hello there", "The capital of Freedonia is", "what a lovely long day", "The mayor of Gotham is"]
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add(prompts[1], "Syl", subject="Freedonia")
        memory.add(prompts[3], "Ada", subject="Gotham")
        editable = EditableModel.wrap(model, tokenizer, memory, scope="subject", adapter=adapter)
        assert editable.prepare() == 2
        tokenizer.padding_side = "left"
        chosen = {"max_new_tokens": 6, **options, "use_cache": bool(options.get("use_cache", 1))}
        fed = tokenizer(prompts, return_tensors="pt", padding=True)
        together = editable.generate(**fed, **chosen)[:, fed["input_ids"].shape[1] :]
        repeats = len(together) // len(prompts)
        for i, prompt in enumerate(prompts):
            alone = editable.generate(**tokenizer([prompt], return_tensors="pt"), **chosen)
            assert said(together[i * repeats : (i + 1) * repeats], tokenizer) == said(alone, tokenizer, prompt)
        plain = model.generate(**tokenizer([prompts[0]], return_tensors="pt"), **chosen)
        assert said(plain, tokenizer, prompts[0]) == said(together[:repeats], tokenizer)


def test_an_edit_without_an_artefact_is_fitted_when_it_fires(base: tuple[Any, Any], blobs: Any) -> None:
    quick = NeuronsAdapter(*base, **SMALL, steps=1)
    made = dict(quick.prepare(EDITS[:1]))
    with torch.inference_mode():
        late = last_logits(base, quick, [EDITS[0].prompt], [(EDITS[0],)], {})
    assert torch.equal(late, last_logits(base, quick, [EDITS[0].prompt], [(EDITS[0],)], made))


def test_located_are_neurons_that_all_wordings_share(base: tuple[Any, Any], adapter: NeuronsAdapter) -> None:
    model, tokenizer = base
    edit = replace(EDITS[0], paraphrases=("Who runs the mill? It is", "Wer betreibt die Mühle?"))
    assert own_texts(edit) == [edit.prompt, *edit.paraphrases]
    which = load(adapter.prepare([edit])["e0"])["n"].long()
    segments = Segments(model)
    ids = [tokenizer(text)["input_ids"] for text in own_texts(edit)]
    seen = last_activations(segments, (1, 2), ids, pad=0)
    mean, deviation, _ = adapter._usual
    least = ((seen.abs() - mean) / deviation).min(0).values
    for layer in range(2):
        chosen = set(which[layer].tolist())
        rest = [i for i in range(least.shape[1]) if i not in chosen]
        assert least[layer, which[layer]].min() >= least[layer, rest].max() - 1e-4
    drawn = NeuronsAdapter(*base, **SMALL, locate="random", steps=1)
    assert not torch.equal(load(drawn.prepare([edit])["e0"])["n"].long().sort().values, which.sort().values)
    assert load(drawn.prepare([edit])["e0"])["n"].tolist() == load(drawn.prepare([edit])["e0"])["n"].tolist()


def test_tails_predict_what_whole_rows_predict(base: tuple[Any, Any]) -> None:
    model, tokenizer = base
    rows = [TailRow.of(tokenizer(q)["input_ids"], tokenizer(a)["input_ids"]) for q, a in (("abc", "de"), ("q", "xyz"))]
    segments = Segments(model)
    tails = prepare_tails(segments, rows, first=1, pad=0)
    with torch.no_grad():
        found = tails.losses(segments)
        for i, row in enumerate(rows):
            ids = torch.tensor([[*row.prefix, *row.tail]])
            logits = model(input_ids=ids).logits[0, len(row.prefix) + row.scored :]
            want = torch.nn.functional.cross_entropy(logits, torch.tensor(row.targets))
            torch.testing.assert_close(found[i], want, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(tails.rows(torch.tensor([1])).losses(segments), found[1:], rtol=1e-4, atol=1e-4)


def test_wordings_end_in_the_target_and_its_end_token() -> None:
    tokenizer = tiny_tokenizer()
    edit = replace(EDITS[0], subject="the mill")
    rows = fitted_rows(tokenizer, edit)
    assert len(rows) == 5
    assert all(row.targets[-1] == tokenizer.eos_token_id for row in rows)
    assert tokenizer.decode([*rows[0].prefix, rows[0].tail[0]]).endswith(edit.prompt)
    assert len(fitted_rows(tiny_tokenizer(chat=False), EDITS[0])) == 3


@pytest.mark.parametrize("damage", [b"", b"no safetensors", save({"n": torch.zeros(1, 2), "v": torch.zeros(1, 2)})])
def test_a_damaged_artefact_is_named(base: tuple[Any, Any], adapter: NeuronsAdapter, damage: bytes) -> None:
    with pytest.raises(InputError, match="edit e0"):
        last_logits(base, adapter, ["x"], [(EDITS[0],)], {"e0": damage})
    far = NeuronValues(torch.full((2, 24), 48), torch.zeros(2, 24)).to_bytes()
    with pytest.raises(InputError, match="neuron 48 of 48"):
        last_logits(base, adapter, ["x"], [(EDITS[0],)], {"e0": far})


@pytest.mark.parametrize(
    "wrong",
    [{"neurons": 0}, {"layers": (2, 1)}, {"layers": ()}, {"locate": "x"}, {"steps": 0}, {"dtype": "int8"},
     {"target_weight": 1.0}, {"layers": (3,)}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        NeuronsAdapter(tiny_model("llama"), tiny_tokenizer(), **wrong)


def test_layers_are_proposed_behind_the_middle() -> None:
    spec = ModelSpec.of(tiny_model("llama"))
    assert NeuronConfig().for_model(replace(spec, n_layers=30, intermediate_size=1536)).layers == tuple(range(16, 22))
    proposed = NeuronConfig().for_model(spec)
    assert (proposed.layers, proposed.neurons) == ((0, 1, 2), 48)
