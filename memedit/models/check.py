"""What of memedit works with a model, found by trying it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from memedit.errors import UnsupportedModelError
from memedit.models.chat import chat_layout, render_chat
from memedit.models.fingerprint import is_packed
from memedit.models.hooks import LowRank, capture, low_rank_rows, shared_inputs, stack_low_rank
from memedit.models.spec import ModelSpec
from memedit.models.tokenizers import barred_ids, encode_as_data, prepare_tokenizer

_SHORT, _LONG = "The sky is", "On a clear day in the middle of summer the sky over the sea is"
_TOKENS = 4


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What was found. ``works`` says what can be used; ``notes`` says how it went or why not, under the same names.

    ``layers``, ``attention`` and ``mlp_down`` are module paths (``{}`` stands for the layer's number); the proposed
    layers for weight edits are a starting point, see :meth:`ModelSpec.consolidation_layers`.
    """

    family: str
    n_layers: int
    hidden_size: int
    intermediate_size: int | None
    vocabulary_size: int
    max_positions: int | None
    parameters: int
    dtype: str
    layers: str
    attention: tuple[str, ...]
    mlp_down: str | None
    weight_orientation: str | None
    consolidation_layers: tuple[int, ...]
    works: dict[str, bool]
    notes: dict[str, str]

    @property
    def usable(self) -> bool:
        """Whether the in-context adapter works, which needs generation and edit text kept from being control."""
        return self.works["generate"] and self.works["edit text stays text"]


def check_model(model: Any, tokenizer: Any) -> ModelReport:
    """Try what memedit needs on a loaded model; nothing of it is changed.

    Raises:
        UnsupportedModelError: its layers or embedding cannot be found at all.
        InputError: the tokenizer has neither a padding nor an end-of-text token.
    """
    prepare_tokenizer(tokenizer)
    spec = ModelSpec.of(model)
    works: dict[str, bool] = {}
    notes: dict[str, str] = {}
    trials: dict[str, Callable[[], str]] = {
        "generate": lambda: _generates(model, tokenizer),
        "left padding": lambda: _pads_left(model, tokenizer),
        "chat template": lambda: _chats(tokenizer),
        "edit text stays text": lambda: _keeps_text(tokenizer),
        "per-row adapters": lambda: _adapts_rows(model, tokenizer, spec),
        "consolidation": lambda: _reads_keys(model, tokenizer, spec),
    }
    for name, trial in trials.items():
        try:
            notes[name] = trial()
            works[name] = True
        except Exception as error:  # whatever goes wrong inside a model of unknown making is the finding
            works[name] = False
            notes[name] = str(error) if isinstance(error, UnsupportedModelError) else f"{type(error).__name__}: {error}"
    down = spec.mlp_down
    return ModelReport(
        family=spec.family,
        n_layers=spec.n_layers,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        vocabulary_size=spec.vocabulary_size,
        max_positions=spec.max_positions,
        parameters=sum(p.numel() for p in model.parameters()),
        dtype=str(model.dtype).removeprefix("torch."),
        layers=spec.layers,
        attention=tuple(f"{spec.layers}.{{}}.{item.path}" for item in spec.attention),
        mlp_down=None if down is None else f"{spec.layers}.{{}}.{down.path}",
        weight_orientation=None if down is None else ("[in, out]" if down.transposed else "[out, in]"),
        consolidation_layers=spec.consolidation_layers() if works["consolidation"] else (),
        works=works,
        notes=notes,
    )


def _generates(model: Any, tokenizer: Any) -> str:
    batch = tokenizer(_SHORT, return_tensors="pt").to(model.device)
    out = model.generate(**batch, max_new_tokens=_TOKENS, do_sample=False)
    new = out[0, batch["input_ids"].shape[1] :]
    return f"{_SHORT!r} -> {tokenizer.decode(new, skip_special_tokens=True)!r}"


@torch.no_grad()
def _pads_left(model: Any, tokenizer: Any) -> str:
    short, long = (tokenizer(text)["input_ids"] for text in (_SHORT, _LONG))
    gap = len(long) - len(short)
    ids = torch.tensor([[tokenizer.pad_token_id] * gap + short, long], device=model.device)
    mask = torch.tensor([[0] * gap + [1] * len(short), [1] * len(long)], device=model.device)
    options = {"max_new_tokens": 1, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    padded = model.generate(input_ids=ids, attention_mask=mask, **options).logits[0][0].float()
    alone = model.generate(input_ids=ids[:1, gap:], attention_mask=mask[:1, gap:], **options).logits[0][0].float()
    error = float((padded - alone).abs().max())
    scale = float(alone.abs().max())
    allowed = 1e-4 if model.dtype == torch.float32 else 0.05
    if not error <= allowed * max(scale, 1.0):
        raise UnsupportedModelError(
            f"a left-padded row differs from itself alone by {error:.2g} (logits up to {scale:.3g}): the model ignores "
            "the attention mask or counts positions from the padding; use batches of one"
        )
    return f"a padded row equals itself alone within {error:.1g} (logits up to {scale:.3g})"


def _chats(tokenizer: Any) -> str:
    if getattr(tokenizer, "chat_template", None) is None:
        raise UnsupportedModelError("the tokenizer has no chat template: plain completion only")
    layout = chat_layout(tokenizer)
    if layout is None:
        raise UnsupportedModelError("the template does not mark user turns, or refuses a single user message")
    ids = render_chat(tokenizer, [{"role": "user", "content": _SHORT}])
    span = layout.last_user_span(ids)
    read = "" if span is None else tokenizer.decode(list(ids[span[0] : span[1]])).strip()
    if read != _SHORT:
        raise UnsupportedModelError(f"a user turn {_SHORT!r} reads back from the template's ids as {read!r}")
    place = "the system message" if layout.system_place(ids) is not None else "the last user turn (no system role)"
    return f"edits are stated in {place}"


def _keeps_text(tokenizer: Any) -> str:
    barred = barred_ids(tokenizer)
    texts = [str(tokenizer.convert_ids_to_tokens(i)) for i in sorted(barred)]
    opened = [text for text in texts if barred & set(encode_as_data(tokenizer, f"a {text} b"))]
    if opened:
        raise UnsupportedModelError(f"edit text can open control tokens: {', '.join(opened[:5])}")
    return f"none of {len(texts)} added tokens can be opened from an edit's text"


@torch.no_grad()
def _adapts_rows(model: Any, tokenizer: Any, spec: ModelSpec) -> str:
    if not spec.attention:
        raise UnsupportedModelError("no attention projections were found in a layer")
    linear = spec.attention[0]
    name = f"{spec.layers}.0.{linear.path}"
    term = LowRank(down=torch.ones(1, linear.in_features), up=torch.ones(linear.out_features, 1))
    groups = stack_low_rank({name: term}, shared_inputs(model, [name]), dtype=model.dtype, device=model.device)
    ids = torch.tensor([tokenizer(_SHORT)["input_ids"]] * 2, device=model.device)
    before = model(input_ids=ids).logits
    with low_rank_rows(model, groups, rows=[0], batch=2):
        during = model(input_ids=ids).logits
    after = model(input_ids=ids).logits
    if torch.equal(during[0], before[0]) or not torch.equal(during[1], before[1]) or not torch.equal(after, before):
        raise UnsupportedModelError(f"a low-rank term on {name} does not act on its own row alone")
    return f"a low-rank term on {name} changes its own row and no other"


@torch.no_grad()
def _reads_keys(model: Any, tokenizer: Any, spec: ModelSpec) -> str:
    down = spec.mlp_down
    if down is None:
        raise UnsupportedModelError("no single MLP down-projection per layer (a mixture of experts?)")
    name = f"{spec.layers}.0.{down.path}"
    layer = spec.layer(model, 0)
    weight: Any = layer.get_submodule(down.path).weight
    if is_packed(weight) or not torch.is_floating_point(weight):
        kind = type(weight).__name__ if is_packed(weight) else weight.dtype
        raise UnsupportedModelError(
            f"the weights of {name} are quantised ({kind}): consolidate into a model that is not"
        )
    ids = torch.tensor([tokenizer(_SHORT)["input_ids"]], device=model.device)
    with capture(model, [name]) as seen:
        model(input_ids=ids)
    keys, values = seen.inputs[name][0].float(), seen.outputs[name][0].float()
    bias = getattr(layer.get_submodule(down.path), "bias", None)
    made = keys @ down.weight(layer).float().T + (bias.float() if bias is not None else 0.0)
    error = float((made - values).abs().max() / values.abs().max().clamp(min=1e-6))
    if not error < (1e-3 if model.dtype == torch.float32 else 0.1):
        raise UnsupportedModelError(f"{name} is not the linear map its weight says (relative error {error:.2g})")
    return f"keys of width {down.in_features} and values of width {down.out_features} at {name}"
