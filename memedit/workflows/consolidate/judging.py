"""In which words the weights answer an edit: asked at consolidation in wordings that nobody stored.

A wording is another template for the edit's question (:mod:`memedit.consolidation.wordings`), every other one behind a
text that the model wrote, since an edit must hold wherever its subject turns up.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from memedit.consolidation.base import EditRequest
from memedit.consolidation.contexts import build_contexts
from memedit.consolidation.wordings import Template, known_wordings, other_wordings, template_of
from memedit.evaluation.answering import Answerer
from memedit.models import LoadedModel
from memedit.types import Edit
from memedit.workflows.consolidate.asking import Tick
from memedit.workflows.consolidate.checking import EditCheck, ask_wordings
from memedit.workflows.consolidate.selecting import edit_requests
from memedit.workflows.consolidate.settings import JobSettings

ENOUGH = 3
"""Wordings of an edit that must have been asked before any other is left to the weights."""
_TEXTS = 5
_SEED = 10_000
"""Of the texts in front; not the seed of those that targets are optimised behind."""


def generated_wordings(
    loaded: LoadedModel, edits: Sequence[Edit], settings: JobSettings
) -> Mapping[str, Sequence[str]]:
    """Return, by id, at most ``settings.wordings`` wordings of each edit's question; none where no other is known.

    Which they are depends on the set of edits, and on nothing that is solved for.

    Raises:
        ModelNotFoundError: there is no MiniLM, by which wordings are compared.
    """
    requests = edit_requests(edits)
    asking = {request.id: template for request in requests if (template := template_of(request)) is not None}
    if not asking or not settings.wordings:
        return {}
    sources = [find(loaded, requests, seed=settings.solver.seed) for find in (known_wordings, other_wordings)]
    fronts = _fronts(loaded, settings)
    by_id = {request.id: request for request in requests}
    return {i: drawn_wordings(by_id[i], template, sources, fronts, settings.wordings) for i, template in asking.items()}


def judged(
    answerer: Answerer,
    checks: Sequence[EditCheck],
    wordings: Mapping[str, Sequence[str]],
    settings: JobSettings,
    tick: Tick | None = None,
) -> list[EditCheck]:
    """Ask the weights in these words, and say for each edit whether others may be left to them, in order.

    Edits that failed their check stay with the memory in all words, and are not asked.
    """
    asked = [(check.edit, text) for check in checks if check.passed for text in wordings.get(check.edit.id, ())]
    held = iter(ask_wordings(answerer, asked, settings, tick))
    counts = [len(wordings.get(check.edit.id, ())) if check.passed else 0 for check in checks]
    return [_judged(check, list(islice(held, n)), settings) for check, n in zip(checks, counts, strict=True)]


def _judged(check: EditCheck, generated: Sequence[bool], settings: JobSettings) -> EditCheck:
    found = replace(check, generated=tuple(generated))
    rows = found.rows
    return replace(found, any_wording=len(generated) >= ENOUGH and sum(rows) >= settings.least_right * len(rows))


def _fronts(loaded: LoadedModel, settings: JobSettings) -> list[str]:
    """Return texts that the model wrote."""
    solver = replace(settings.solver, contexts=_TEXTS, seed=settings.solver.seed + _SEED)
    return [context.text for context in build_contexts(loaded, solver) if context.text]


def drawn_wordings(
    request: EditRequest,
    template: Template,
    sources: Sequence[Mapping[Template, Sequence[Template]]],
    fronts: Sequence[str],
    count: int,
) -> list[str]:
    """Draw wordings of one edit from all sources in turn, by its id."""
    drawn = random.Random(f"{_SEED}/{request.prompt}/{request.target}")
    known = [list(found) for source in sources if (found := source.get(template))]
    for found in known:
        drawn.shuffle(found)
    chosen: list[Template] = []
    while any(known) and len(chosen) < count:
        for found in known:
            if found and len(chosen) < count and (one := found.pop()) not in chosen:
                chosen.append(one)
    texts = [f"{before}{(request.subject or '').strip()}{behind}" for before, behind in chosen]
    return [f"{drawn.choice(fronts)} {text}" if at % 2 and fronts else text for at, text in enumerate(texts)]
