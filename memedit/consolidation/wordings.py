"""Other wordings of an edit's question, found among the prompts of the other edits and in a list of common relations.

With its subject taken out a prompt is a template ("... is headquartered in"). Two templates ask for the same thing
when the base answers them alike, whoever is put in: when the Bhattacharyya coefficient of its next-token distributions,
averaged over a few edits' subjects, is high. An edit may then be asked in the words of all templates that agree with
its own, though nobody stored a paraphrase of it.

The list (``wordings.yaml``) has wordings near and far of relations that facts are mostly about. A template is taken for
the relation of the wording it is most like: by the encoder's cosine, with "it" for the subject, and the base's answers.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from memedit.consolidation.base import EditRequest
from memedit.consolidation.contexts import opening_ids
from memedit.consolidation.rows import prompt_ids, subject_end
from memedit.encoders import load_encoder
from memedit.models import LoadedModel
from memedit.models.segments import Inputs, Segments

Template = tuple[str, str]
"""What stands before and behind the subject."""

AGREEMENT = 0.85
SUBJECTS = 10
MOST = 2_000
"""Templates compared: those of the most edits."""
KNOWN, NEAREST, SHARE = 0.5, 6, 0.5
"""Least cosine of a template and a relation's wording, wordings compared further, and what agreement counts then."""
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
    chosen, drawn = _templates(requests), _subjects(requests, seed)
    if len(chosen) < 2 or len(drawn) < 2:
        return {}
    agreed = _agreement(loaded, chosen, chosen, drawn, seed) >= AGREEMENT
    agreed.fill_diagonal_(False)
    return {
        template: [chosen[n] for n in row.nonzero()[:, 0].tolist()]
        for template, row in zip(chosen, agreed, strict=True)
    }


def known_wordings(
    loaded: LoadedModel, requests: Sequence[EditRequest], *, seed: int
) -> Mapping[Template, Sequence[Template]]:
    """Return, for each template among the requests' prompts, the wordings of the relation it is taken for.

    Templates that are like no wording of any relation are left out.

    Args:
        loaded: the frozen base.
        requests: the edits, in the order of their ids.
        seed: of the subjects drawn.

    Raises:
        ModelNotFoundError: there is no MiniLM.
    """
    relations = _relations()
    listed = [(n, wording) for n, relation in enumerate(relations) for wording in relation]
    asking = [template for template in _templates(requests) if any(map(str.strip, template))]
    cosines = {
        template: row
        for template, row in _cosines(asking, [wording for _, wording in listed]).items()
        if row.max() >= KNOWN
    }
    nearest = {template: row.argsort(descending=True)[:NEAREST].tolist() for template, row in cosines.items()}
    compared = sorted({at for places in nearest.values() for at in places})
    agreed = _agreement(loaded, [*cosines], [listed[at][1] for at in compared], _subjects(requests, seed), seed)
    known: dict[Template, list[Template]] = {}
    for (template, row), alike in zip(cosines.items(), agreed, strict=True):
        standing = {at: float(row[at] + SHARE * alike[compared.index(at)]) for at in nearest[template]}
        relation = relations[listed[max(standing, key=standing.__getitem__)][0]]
        known[template] = [wording for wording in relation if wording != template]
    return known


def _templates(requests: Sequence[EditRequest]) -> list[Template]:
    """Return the requests' templates, those of the most edits first, at most ``MOST``."""
    found = (template for request in requests if (template := template_of(request)) is not None)
    return [template for template, _ in Counter(found).most_common(MOST)]


def _subjects(requests: Sequence[EditRequest], seed: int) -> list[str]:
    """Draw subjects of edits whose prompts name them."""
    subjects = sorted({(request.subject or "").strip() for request in requests if template_of(request) is not None})
    return random.Random(seed).sample(subjects, min(SUBJECTS, len(subjects)))


def _cosines(templates: Sequence[Template], wordings: Sequence[Template]) -> dict[Template, Tensor]:
    """Return the cosines of each template and all wordings, by the encoder, of something called "it"."""
    if not templates:
        return {}
    encoder = load_encoder()
    said, listed = (encoder.encode([f"{before}it{behind}" for before, behind in s]) for s in (templates, wordings))
    return dict(zip(templates, torch.from_numpy(said @ listed.T), strict=True))


def _agreement(
    loaded: LoadedModel, ones: Sequence[Template], others: Sequence[Template], subjects: Sequence[str], seed: int
) -> Tensor:
    """Return the Bhattacharyya coefficients ``[ones, others]`` of the base's answers, a mean over subjects."""
    every = {template: at for at, template in enumerate(dict.fromkeys((*ones, *others)))}
    prompts = [f"{before}{subject}{behind}" for before, behind in every for subject in subjects]
    if not prompts:
        return torch.zeros(len(ones), len(others))
    flat = _roots(loaded, prompts, seed).view(len(every), -1)
    return flat[[every[one] for one in ones]] @ flat[[every[other] for other in others]].T / len(subjects)


@cache
def _relations() -> tuple[tuple[Template, ...], ...]:
    """Return the listed wordings, relation by relation."""
    listed: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    return tuple(tuple(_split(wording) for wording in wordings) for wordings in listed.values())


def _split(wording: str) -> Template:
    before, _, behind = wording.partition("{}")
    return before, behind


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
