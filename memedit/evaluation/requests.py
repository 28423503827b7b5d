"""From probes to the distinct requests a model has to serve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from memedit.evaluation.answering import Answerer
from memedit.evaluation.cases import WANTS_TARGET, ProbeKind
from memedit.evaluation.settings import EvalSettings
from memedit.evaluation.stream import AskedProbe

_LONG_ROUND = 64


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A prompt to answer greedily within ``max_new_tokens``."""

    prompt: str
    max_new_tokens: int
    stop_at_newline: bool = True


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A target to score behind a prompt; ``target`` brings its own leading space."""

    prompt: str
    target: str


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A prompt to continue by sampling at temperature 1; ``number`` tells continuations of one prompt apart."""

    prompt: str
    max_new_tokens: int
    number: int


@dataclass(frozen=True, slots=True)
class GeneratePlan:
    """Distinct requests, and for each asked probe the place of its request."""

    requests: tuple[GenerateRequest, ...]
    of_probe: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScorePlan:
    """Distinct requests; for each asked probe the places of its answer's and its contrast's, where it has one."""

    requests: tuple[ScoreRequest, ...]
    of_answer: tuple[int | None, ...]
    of_contrast: tuple[int | None, ...]


def continuation(prompt: str, answer: str) -> str:
    """Return ``answer`` as it follows ``prompt``: stripped, behind one space unless the prompt ends in white space."""
    return answer.strip() if prompt[-1:].isspace() else f" {answer.strip()}"


def plan_generate(probes: Sequence[AskedProbe], answerer: Answerer, settings: EvalSettings) -> GeneratePlan:
    """Return the generate requests of ``probes``.

    The token limit depends on the data and the tokenizer only, never on the method: the canonical answer's tokens plus
    ``slack_tokens``, rounded up; ``unchanged_tokens`` where the base's answer is wanted.
    """
    wanted = [i for i, p in enumerate(probes) if p.probe.kind in WANTS_TARGET]
    answers = [continuation(probes[i].probe.prompt, probes[i].probe.answers[0]) for i in wanted]
    tokens = dict(zip(wanted, answerer.count_tokens(answers), strict=True))
    places: dict[GenerateRequest, int] = {}
    of_probe = []
    for i, asked in enumerate(probes):
        limit = settings.unchanged_tokens
        if i in tokens:
            long_form = asked.long_form and asked.probe.kind in (ProbeKind.EDIT, ProbeKind.PARAPHRASE)
            limit = _limit(tokens[i], settings, long_form=long_form)
        of_probe.append(places.setdefault(GenerateRequest(asked.probe.prompt, limit), len(places)))
    return GeneratePlan(tuple(places), tuple(of_probe))


def _limit(tokens: int, settings: EvalSettings, *, long_form: bool) -> int:
    step = _LONG_ROUND if long_form else settings.round_tokens
    limit = math.ceil((tokens + settings.slack_tokens) / step) * step
    return min(limit, settings.long_tokens)


def plan_score(probes: Sequence[AskedProbe]) -> ScorePlan:
    """Return the score requests of ``probes``: the canonical answer, and its contrast where there is one."""
    places: dict[ScoreRequest, int] = {}

    def place(prompt: str, text: str | None) -> int | None:
        if text is None:
            return None
        return places.setdefault(ScoreRequest(prompt, continuation(prompt, text)), len(places))

    of_answer: list[int | None] = []
    of_contrast: list[int | None] = []
    for asked in probes:
        probe = asked.probe
        of_answer.append(place(probe.prompt, probe.answers[0] if probe.answers else None))
        of_contrast.append(place(probe.prompt, probe.contrast if probe.answers else None))
    return ScorePlan(tuple(places), tuple(of_answer), tuple(of_contrast))
