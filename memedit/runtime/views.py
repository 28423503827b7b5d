"""Callers' own generation parts see their own prompt, whatever was fed to the model in its place."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor
from transformers.generation.streamers import BaseStreamer


class CallerView:
    """Maps the ids a pass works on to what they would be had the caller's prompt been fed.

    Args:
        prompts: the caller's prompt ids ``[R, T]`` of the pass's rows.
        width: columns of the prompt that was fed.
    """

    def __init__(self, prompts: Tensor, width: int) -> None:
        self.prompts, self.width = prompts, width

    def __call__(self, ids: Tensor) -> Tensor:
        """Replace the prompt of ids ``[R*r, width+n]`` (beams and samples repeat rows) by the caller's."""
        repeats = ids.shape[0] // self.prompts.shape[0]
        prompts = self.prompts.repeat_interleave(repeats, dim=0)
        return torch.cat([prompts.to(ids.device), ids[:, self.width :]], dim=1)

    def arguments(self, options: dict[str, Any], rows: Sequence[int], effective: Callable[[str], Any]) -> None:
        """Wrap what ``options`` hold of the caller's processors, criteria, token filter and streamer, in place.

        Penalties on repeating the prompt would otherwise count the edit's text as said already, and forbid the very
        words it asks for; they are taken over here. ``effective`` gives a generation setting's value.
        """
        processors = [_Processor(p, self) for p in options.pop("logits_processor", None) or ()]
        penalty, ngram = effective("repetition_penalty"), effective("no_repeat_ngram_size")
        if penalty is not None and penalty != 1.0:
            options["repetition_penalty"] = 1.0
            processors.append(_Processor(RepetitionPenaltyLogitsProcessor(penalty), self))
        if ngram:
            options["no_repeat_ngram_size"] = 0
            processors.append(_Processor(NoRepeatNGramLogitsProcessor(ngram), self))
        if processors:
            options["logits_processor"] = LogitsProcessorList(processors)
        criteria = options.pop("stopping_criteria", None)
        if criteria:
            options["stopping_criteria"] = StoppingCriteriaList([_Criterion(c, self) for c in criteria])
        allowed = options.get("prefix_allowed_tokens_fn")
        if allowed is not None:
            options["prefix_allowed_tokens_fn"] = self._token_filter(allowed, rows)
        if options.get("streamer") is not None:
            options["streamer"] = _Streamer(options["streamer"], self.prompts)

    def _token_filter(self, allowed: Callable[[int, Tensor], Any], rows: Sequence[int]) -> Callable[[int, Tensor], Any]:
        def call(row: int, ids: Tensor) -> Any:
            return allowed(rows[row], torch.cat([self.prompts[row].to(ids.device), ids[self.width :]]))

        return call


class _Processor(LogitsProcessor):
    def __init__(self, inner: Any, view: CallerView) -> None:
        self._inner, self._view = inner, view

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        changed: Tensor = self._inner(self._view(input_ids), scores)
        return changed


class _Criterion(StoppingCriteria):
    def __init__(self, inner: Any, view: CallerView) -> None:
        self._inner, self._view = inner, view

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Any:
        return self._inner(self._view(input_ids), scores, **kwargs)


class _Streamer(BaseStreamer):
    """The first thing put into a streamer is the prompt."""

    def __init__(self, inner: Any, prompts: Tensor) -> None:
        self._inner, self._prompts = inner, prompts
        self._started = False

    def put(self, value: Tensor) -> None:
        self._inner.put(value if self._started else self._prompts.cpu())
        self._started = True

    def end(self) -> None:
        self._inner.end()
