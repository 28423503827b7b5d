"""Whether a model can be decoded in a running batch: tried, not guessed from its name."""

from collections.abc import Sequence
from typing import Any

import torch

from memedit.adapters.base import Row
from memedit.errors import UnsupportedModelError
from memedit.runtime.continuous.batch import ContinuousBatch
from memedit.runtime.continuous.jobs import Job, Step

_TOKENS = 4
_TOLERANCE = {torch.float32: 1e-3}
_COARSE = 0.25


@torch.inference_mode()
def check_model(model: Any, pad: int, vocabulary: int) -> None:
    """Decode prompts of different lengths in one running batch and compare with whole forward passes.

    Raises:
        UnsupportedModelError: the two differ by more than rounding, or the model cannot run so at all.
    """
    prompts = [tuple((7 * i + 3) % vocabulary for i in range(length)) for length in (3, 8)]
    try:
        batch = ContinuousBatch(model, pad, None)
        jobs = [Job(i, Row(ids, ""), ids, limit=_TOKENS, logprobs=1) for i, ids in enumerate(prompts)]
        steps = batch.join([[jobs[1]]])  # the other joins while this one is under way
        steps += batch.step() + batch.join([[jobs[0]]])
        while len(batch):
            steps += batch.step()
        failed = next((step.error for step in steps if step.error is not None), None)
        if failed is not None:
            raise failed
        worst = max(_difference(model, job, [step for step in steps if step.job is job]) for job in jobs)
    except UnsupportedModelError:
        raise
    except Exception as error:  # models raise what they like when fed in a way that they do not know
        raise UnsupportedModelError(
            f"{type(model).__name__} cannot be decoded in a running batch: {type(error).__name__}: {error}"
        ) from error
    if worst > _TOLERANCE.get(model.dtype, _COARSE):
        raise UnsupportedModelError(
            f"{type(model).__name__} answers otherwise in a running batch: log probabilities differ by {worst:.3g}"
        )


def _difference(model: Any, job: Job, steps: Sequence[Step]) -> float:
    """Largest difference between the log probabilities of a job's tokens and those of one whole pass."""
    ids = torch.tensor([[*job.prompt, *job.tokens]], device=model.device)
    scores = model(input_ids=ids, use_cache=False).logits[0, len(job.prompt) - 1 : -1].float().log_softmax(-1)
    return max(abs(float(row[step.token]) - (step.logprob or 0.0)) for row, step in zip(scores, steps, strict=True))
