"""Running a planned batch: the bare model on the caller's tensors, edited rows in a pass of their own."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from memedit.adapters.base import Adapter, AdapterBatch, Row
from memedit.runtime.lengths import check_fits, effective, longest, restate_lengths
from memedit.runtime.rows import left_pad
from memedit.runtime.structured import Held, HoldingProcessor
from memedit.runtime.target_bias import Prior, TargetMixer
from memedit.runtime.views import CallerView
from memedit.types import Edit

_SETTINGS = GenerationConfig()

_PROMPT_BOUND = (
    "inputs", "input_ids", "attention_mask", "position_ids", "token_type_ids", "past_key_values", "cache",
    "cache_position", "inputs_embeds",
)  # fmt: skip
"""Arguments that describe the caller's prompt and are replaced with it."""


@dataclass(frozen=True, slots=True)
class Base:
    """The bare model, the id it pads with, and the most tokens it reads (None: no limit)."""

    model: Any
    pad: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class EditedRows:
    """The rows of a batch on which edits fire: their numbers, edits (best first), artefacts, and what is mixed in.

    A row without edits is the model's own to answer, on a question that edits were put into. ``said`` is what the
    answers have said already, where they go on.
    ``held`` make what their answers are held to, where that is a structure; ``priors`` are None then.
    """

    numbers: tuple[int, ...]
    rows: tuple[Row, ...]
    edits: tuple[tuple[Edit, ...], ...]
    artefacts: Mapping[str, bytes]
    priors: tuple[Prior | None, ...]
    held: tuple[Callable[[], Held], ...] = ()
    said: tuple[tuple[int, ...], ...] = ()

    def rewritten(self, adapter: Adapter, limit: int | None) -> tuple[Row, ...]:
        """Return the rows as the adapter wants them fed.

        Raises:
            InputError: a row no longer fits the model's context.
        """
        pairs = zip(self.rows, self.edits, strict=True)
        fed = tuple(adapter.rewrite(row, edits, self.artefacts) if edits else row for row, edits in pairs)
        if self.said:
            fed = tuple(replace(row, ids=(*row.ids, *said)) for row, said in zip(fed, self.said, strict=True))
        check_fits(longest(fed), limit, edited=True)
        return fed


@dataclass(frozen=True, slots=True)
class PassResult:
    """What ``generate`` returned for some rows of a batch, and how many columns of prompt it was fed."""

    output: Any
    width: int
    numbers: tuple[int, ...]

    @property
    def sequences(self) -> Tensor:
        """Prompt and new ids ``[rows * n, width + new]``."""
        found: Tensor = self.output if isinstance(self.output, Tensor) else self.output.sequences
        return found


def warn_of_embeddings() -> None:
    """Tell whoever called ``generate`` that embeddings are not looked up."""
    warnings.warn(
        "generate(inputs_embeds=...) does not look up edits: there is no text to look up, so the bare model answers; "
        "pass input_ids for answers with edits",
        stacklevel=3,
    )


def run_edited(base: Base, adapter: Adapter, edited: EditedRows, ids: Tensor, options: Mapping[str, Any]) -> PassResult:
    """Generate the edited rows of a batch whose prompts the caller gave as ``ids [B, T]`` in one pass."""
    model = base.model
    fed = edited.rewritten(adapter, base.limit)
    inputs, mask, pads = left_pad(fed, base.pad, ids.device)
    own = _for_rows({k: v for k, v in options.items() if k not in _PROMPT_BOUND}, edited.numbers, ids.shape[0])
    view = CallerView(ids[list(edited.numbers)], inputs.shape[1])
    settings = dict(own)
    view.arguments(own, edited.numbers, lambda name: effective(settings, model, name))
    if edited.held:
        own = with_structure(own, edited.held, inputs.shape[1])
    elif any(edited.priors):
        mixer = TargetMixer(edited.priors, inputs.shape[1])
        own["logits_processor"] = LogitsProcessorList([mixer, *own.get("logits_processor", ())])
    restate_lengths(own, model, ids.shape[1])
    batch = AdapterBatch(rows=fed, edits=edited.edits, pad=pads, answers=tuple(map(len, edited.said)))
    applies = any(edited.edits)  # else nothing but questions and answers to go on with, which are the model's own
    answering = (adapter.model() if applies else None) or model
    with adapter.active(batch, edited.artefacts) if applies else nullcontext():
        output = answering.generate(input_ids=inputs, attention_mask=mask, **own)
    return PassResult(output, inputs.shape[1], edited.numbers)


def with_structure(options: Mapping[str, Any], makers: Sequence[Callable[[], Held]], width: int) -> dict[str, Any]:
    """Return arguments of ``generate`` by which every row of a pass is held to its structure; ``width`` was fed."""
    processors = [HoldingProcessor(makers, width), *(options.get("logits_processor") or ())]
    return {**options, "logits_processor": LogitsProcessorList(processors)}


def _for_rows(options: Mapping[str, Any], numbers: Sequence[int], batch: int) -> dict[str, Any]:
    """Pick these rows of every argument that holds one entry a row; generation settings never do."""

    def picked(key: str, value: Any) -> Any:
        per_row = isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == batch
        return value[list(numbers)] if per_row and not hasattr(_SETTINGS, key) else value

    return {key: picked(key, value) for key, value in options.items()}


def merge(bare: PassResult | None, edited: PassResult, ids: Tensor, pad: int) -> Any:
    """Put results back into the caller's rows and layout: prompt ids as given, then new ids, padded on the right.

    Tensors come back as a tensor; with ``return_dict_in_generate`` the same kind of output. Where two passes had to be
    joined it holds sequences, their scores, and scores and logits of each step; a row that ended before the other
    pass did has pad-token certainty (0 for the padding token, -inf elsewhere) from there on.
    """
    passes = [edited] if bare is None else [bare, edited]
    sequences = _merge_sequences(passes, ids, pad)
    if isinstance(edited.output, Tensor):
        return sequences
    if bare is None:
        edited.output["sequences"] = sequences
        return edited.output
    fields: dict[str, Any] = {"sequences": sequences}
    for name in ("scores", "logits"):
        if edited.output.get(name) is not None:
            fields[name] = _merge_steps([(p.output[name], p.numbers) for p in passes], ids.shape[0], pad)
    if edited.output.get("sequences_scores") is not None:
        fields["sequences_scores"] = _merge_rows([(p.output["sequences_scores"], p.numbers) for p in passes], len(ids))
    return type(edited.output)(**fields)


def _merge_sequences(passes: Sequence[PassResult], ids: Tensor, pad: int) -> Tensor:
    new = [p.sequences[:, p.width :] for p in passes]
    width = max(part.shape[1] for part in new)
    padded = [torch.nn.functional.pad(part, (0, width - part.shape[1]), value=pad) for part in new]
    rows = _merge_rows(list(zip(padded, [p.numbers for p in passes], strict=True)), ids.shape[0])
    return torch.cat([ids.repeat_interleave(rows.shape[0] // ids.shape[0], dim=0).to(rows.device), rows], dim=1)


def _merge_rows(parts: Sequence[tuple[Tensor, tuple[int, ...]]], batch: int) -> Tensor:
    """Join tensors whose leading dimension is rows times repeats; later parts overwrite earlier ones."""
    first, numbers = parts[0]
    repeats = first.shape[0] // len(numbers)
    joined = first.new_zeros((batch * repeats, *first.shape[1:]))
    for part, rows in parts:
        at = [row * repeats + i for row in rows for i in range(repeats)]
        joined[at] = part.to(joined.device, joined.dtype)
    return joined


def _merge_steps(parts: Sequence[tuple[Sequence[Tensor], tuple[int, ...]]], batch: int, pad: int) -> tuple[Tensor, ...]:
    steps = max(len(tensors) for tensors, _ in parts)
    return tuple(
        _merge_rows([(_step(tensors, step, pad), rows) for tensors, rows in parts], batch) for step in range(steps)
    )


def _step(tensors: Sequence[Tensor], step: int, pad: int) -> Tensor:
    if step < len(tensors):
        return tensors[step]
    ended = torch.full_like(tensors[0], float("-inf"))
    ended[:, pad] = 0.0
    return ended
