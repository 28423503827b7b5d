"""Other wordings of an edit's question, found among the prompts of the other edits.

With its subject taken out a prompt is a template ("... is headquartered in"). Two templates ask for the same thing
when the base answers them alike, whoever is put in: when the Bhattacharyya coefficient of its next-token distributions,
averaged over a few edits' subjects, is high. An edit may then be asked in the words of all templates that agree with
its own, though nobody stored a paraphrase of it.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from memedit.consolidation.base import EditRequest
from memedit.consolidation.contexts import opening_ids
from memedit.consolidation.rows import prompt_ids, subject_end
from memedit.models import LoadedModel
from memedit.models.segments import Inputs, Segments

Template = tuple[str, str]
"""What stands before and behind the subject."""

AGREEMENT = 0.85
SUBJECTS = 10
MOST = 2_000
"""Templates compared: those of the most edits."""
_WIDTH = 512
"""Random directions that roots of distributions are projected on: coefficients come out to within about 0.02."""
_ROWS = 64


def template_of(request: EditRequest) -> Template | None:
    """Return the prompt without its subject, None when that does not stand there."""
    end = subject_end(request.prompt, request.subject)
    if end is None:
        return None
    return request.prompt[: end - len((request.subject or "").strip())], request.prompt[end:]


def other_wordings(
    loaded: LoadedModel, requests: Sequence[EditRequest], *, seed: int
) -> Mapping[Template, Sequence[Template]]:
    """Return, for each template among the requests' prompts, the others that the base takes for the same question.

    Args:
        loaded: the frozen base.
        requests: the edits, in the order of their ids.
        seed: of the subjects drawn.
    """
    templates = {request.id: template for request in requests if (template := template_of(request)) is not None}
    chosen = [template for template, _ in Counter(templates.values()).most_common(MOST)]
    subjects = sorted({(request.subject or "").strip() for request in requests if request.id in templates})
    if len(chosen) < 2 or len(subjects) < 2:
        return {}
    drawn = random.Random(seed).sample(subjects, min(SUBJECTS, len(subjects)))
    roots = _roots(loaded, [f"{front}{subject}{behind}" for front, behind in chosen for subject in drawn], seed)
    flat = roots.view(len(chosen), -1)
    agreed = flat @ flat.T / len(drawn) >= AGREEMENT
    agreed.fill_diagonal_(False)
    return {
        template: [chosen[n] for n in row.nonzero()[:, 0].tolist()]
        for template, row in zip(chosen, agreed, strict=True)
    }


@torch.no_grad()
def _roots(loaded: LoadedModel, prompts: Sequence[str], seed: int) -> Tensor:
    """Return the square roots of the base's next-token distributions, projected ``[n, w]``, float32."""
    segments, opening = Segments(loaded.model), opening_ids(loaded.tokenizer)
    device = loaded.model.device
    rows = [(*opening, *_ids(loaded.tokenizer, prompt)) for prompt in prompts]
    directions: Tensor | None = None
    found = []
    for start in range(0, len(rows), _ROWS):
        inputs = Inputs.of(rows[start : start + _ROWS], device)
        places = (torch.arange(len(inputs.ids), device=device), inputs.mask.sum(1) - 1)
        state, _ = segments.hidden(inputs, last=0)
        roots = segments.logits(inputs, places, first=1, start=state).float().softmax(-1).sqrt().cpu()
        if directions is None:
            generator = torch.Generator().manual_seed(seed)
            directions = torch.randn(roots.shape[1], _WIDTH, generator=generator) / _WIDTH**0.5
        found.append(roots @ directions)
    return torch.cat(found)


def _ids(tokenizer: Any, prompt: str) -> list[int]:
    return prompt_ids(tokenizer, EditRequest("asked", prompt, "?"), spaced=False)[0]
