"""Where a side memory stands, what its module usually reads, and one edit made ready to train on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memedit.adapters.neurons.wordings import queries, reference_texts
from memedit.models.hooks import capture
from memedit.models.neurons import late_layer, neuron_modules
from memedit.models.segments import Inputs, Segments, output_raised
from memedit.models.token_rows import answer_ids, query_ids
from memedit.models.training import training_copy
from memedit.types import Edit


@dataclass(frozen=True, slots=True)
class EditRow:
    """One edit ready for the layers from the edited one on.

    ``fed`` ``[1, t, d_in]`` is what the module is fed at every token of prompt and answer, ``prompt`` ``[p, d_in]``
    that at the prompt's, and ``start`` ``[1, t, d_model]`` the hidden states in front of the layer.
    """

    inputs: Inputs
    start: Tensor
    fed: Tensor
    prompt: Tensor
    places: tuple[Tensor, Tensor]
    wanted: Tensor


class SideSite:
    """One late MLP down-projection of a frozen copy of a model.

    Args:
        model: the base; it stays as it is.
        tokenizer: its tokenizer.
        layer: the layer; None: the published one, by depth.
    """

    def __init__(self, model: Any, tokenizer: Any, layer: int | None = None) -> None:
        self.segments = Segments(training_copy(model, str(model.dtype).removeprefix("torch."), own=True))
        self.layer = late_layer(self.segments.spec) if layer is None else layer
        (self.module,) = neuron_modules(self.segments.spec, (self.layer,))
        self._tokenizer = tokenizer
        self.others = [self._pass(ids)[2][0] for ids in queries(tokenizer, reference_texts())]
        """What the module is fed at the tokens of prompts that no edit is about, ``n`` of ``[t, d_in]``."""

    @torch.no_grad()
    def _pass(self, ids: Sequence[int]) -> tuple[Inputs, Tensor, Tensor]:
        """Return inputs, hidden states in front of the layer, and what the module is fed."""
        inputs = Inputs.of([list(ids)], self.segments.model.device)
        start, _ = self.segments.hidden(inputs, last=self.layer - 1)
        with capture(self.segments.model, [self.module], outputs=False) as seen:
            self.segments.hidden(inputs, first=self.layer, last=self.layer, start=start)
        return inputs, start, seen.inputs[self.module][0]

    def row(self, edit: Edit) -> EditRow:
        """Return an edit's prompt with its target and end token, run up to the layer."""
        query = query_ids(self._tokenizer, edit.prompt, chat=False)
        answer = answer_ids(self._tokenizer, edit.prompt, edit.target.strip(), chat=False, ends=True)
        inputs, start, fed = self._pass([*query, *answer[:-1]])
        at = torch.arange(len(answer), device=start.device) + len(query) - 1
        wanted = torch.tensor(answer, device=start.device)
        return EditRow(inputs, start, fed, fed[0, : len(query)], (torch.zeros_like(at), at), wanted)

    def loss(self, row: EditRow, change: Tensor, gate: Tensor) -> Tensor:
        """Return the target's mean negative log-likelihood (nats a token), ``change @ (gate * x)`` added."""
        module = self.segments.model.get_submodule(self.module)
        with output_raised(module, (row.fed * gate) @ change.T):
            logits = self.segments.logits(row.inputs, row.places, first=self.layer, start=row.start)
        return torch.nn.functional.cross_entropy(logits.float(), row.wanted)
