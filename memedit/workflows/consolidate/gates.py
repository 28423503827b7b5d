"""The gates: base and candidate asked the same, compared probe by probe, and judged.

The memory has no part in it: what is asked is the bare model, once as the base and once with the candidate's weights.
The base's answers do not depend on the candidate and are taken once a job.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memedit.consolidation.samples import own_samples
from memedit.consolidation.verdicts import Gate, GateLimits, Harm, Verdict, judge_harm, judge_level
from memedit.evaluation.answering import Answerer, Generation, Scoring
from memedit.evaluation.metrics.capability import accuracy, capability_requests
from memedit.evaluation.metrics.perplexity import perplexity, perplexity_requests
from memedit.evaluation.metrics.statistics import PairedTest, mcnemar, paired_bootstrap
from memedit.evaluation.protocols import first_line, is_contained
from memedit.evaluation.requests import GenerateRequest, SampleRequest, ScoreRequest
from memedit.evaluation.rows.collapse import as_harm, broken, rise, sentence_perplexities, sentence_requests
from memedit.models import LoadedModel
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.consolidate.asking import Tick, generate_all, score_all
from memedit.workflows.consolidate.checking import EditCheck
from memedit.workflows.consolidate.probes import Probes
from memedit.workflows.consolidate.settings import JobSettings

_ANSWER_TOKENS = 8
_CANARY_TOKENS = 24
_SAMPLE_WINDOW = 160
_SAMPLE_SEED = 20_000
"""Of the base's own samples; not the seed of the statistics, whose text the update is told to leave alone."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Everything that is asked of base and candidate alike."""

    forced: tuple[ScoreRequest, ...]
    """Prompts no edit is about, each with the base's own answer."""
    windows: tuple[ScoreRequest, ...]
    choices: tuple[ScoreRequest, ...]
    canaries: tuple[GenerateRequest, ...]
    sentences: tuple[ScoreRequest, ...] = ()

    @property
    def count(self) -> int:
        """How many requests they are."""
        return len(self.forced) + len(self.windows) + len(self.choices) + len(self.canaries) + len(self.sentences)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one model said to the questions."""

    forced: tuple[Scoring, ...]
    windows: tuple[Scoring, ...]
    choices: tuple[Scoring, ...]
    canaries: tuple[str, ...]
    sentences: tuple[Scoring, ...] = ()


def prepare_questions(base: BareAnswerer, loaded: LoadedModel, probes: Probes, settings: JobSettings) -> Questions:
    """Turn probes into requests; the base says its answers, and its samples where no text is given."""
    asked = [GenerateRequest(prompt, _ANSWER_TOKENS, stop_at_newline=False) for prompt in probes.prompts]
    answers = generate_all(base, asked, batch_size=settings.batch_size)
    forced = [ScoreRequest(r.prompt, answer.text) for r, answer in zip(asked, answers, strict=True) if answer.text]
    if probes.text is None:
        windows = _sampled_windows(base, loaded, settings)
    else:
        windows = perplexity_requests(probes.text, base, tokens=settings.perplexity_tokens)
    return Questions(
        forced=tuple(_with_tokens(base, forced)),
        windows=tuple(windows),
        choices=tuple(capability_requests(probes.questions)),
        canaries=tuple(GenerateRequest(canary.prompt, _CANARY_TOKENS) for canary in probes.canaries),
        sentences=tuple(_sentences(base, probes.text, settings)),
    )


def _sentences(base: BareAnswerer, text: str | None, settings: JobSettings) -> list[ScoreRequest]:
    """Return sentences of the text and of the base's own."""
    size = settings.batch_size

    def sampled(wanted: Sequence[SampleRequest]) -> list[Generation]:
        said: list[Generation] = []
        for start in range(0, len(wanted), size):
            part = wanted[start : start + size]
            prompts, limit = [request.prompt for request in part], part[0].max_new_tokens
            said += base.sample(prompts, max_new_tokens=limit, seed=_SAMPLE_SEED + start)
        return said

    if not settings.collapse_sentences:
        return []
    return _with_tokens(base, sentence_requests(text, settings.collapse_sentences, sampled))


def _sampled_windows(base: Answerer, loaded: LoadedModel, settings: JobSettings) -> list[ScoreRequest]:
    """Return samples of the base's own, each cut into an opening and the rest, which is scored."""
    wanted = settings.perplexity_tokens * 4 // 3
    ids = own_samples(loaded, tokens=wanted, window=_SAMPLE_WINDOW, seed=_SAMPLE_SEED)
    pairs = [(row[: len(row) // 4], row[len(row) // 4 :]) for row in ids if len(row) >= 8]
    texts = [tuple(loaded.tokenizer.decode(part, skip_special_tokens=True) for part in pair) for pair in pairs]
    return _with_tokens(base, [ScoreRequest(head, tail) for head, tail in texts if head and tail])


def _with_tokens(answerer: Answerer, requests: Sequence[ScoreRequest]) -> list[ScoreRequest]:
    """Leave out targets without a token: there is nothing in them to score."""
    counts = answerer.count_tokens([request.target for request in requests])
    return [request for request, n in zip(requests, counts, strict=True) if n]


def measure(answerer: Answerer, questions: Questions, settings: JobSettings, tick: Tick | None = None) -> Measured:
    """Ask one model all questions."""

    def scored(requests: Sequence[ScoreRequest], batch_size: int) -> tuple[Scoring, ...]:
        return tuple(score_all(answerer, requests, batch_size=batch_size, tick=tick)) if requests else ()

    size = settings.batch_size
    canaries = generate_all(answerer, questions.canaries, batch_size=size, tick=tick) if questions.canaries else []
    return Measured(
        forced=scored(questions.forced, size),
        windows=scored(questions.windows, max(1, size // 4)),  # their rows are long
        choices=scored(questions.choices, size),
        canaries=tuple(first_line(answer.text) for answer in canaries),
        sentences=scored(questions.sentences, size),
    )


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found out about one model."""

    measured: Measured
    checks: tuple[EditCheck, ...]


def judge(probes: Probes, before: Findings, after: Findings, limits: GateLimits) -> list[Gate]:
    """Return the verdicts of all gates on a candidate (``after``) of a base (``before``)."""
    base, candidate = before.measured, after.measured
    return [
        _efficacy(after.checks, before.checks, limits),
        _paraphrase(after.checks, before.checks, limits),
        _specificity(base, candidate, limits),
        _perplexity(base, candidate, limits),
        _capability(probes, base, candidate, limits),
        _canaries(probes, base, candidate, limits),
        _collapse(base, candidate, limits),
    ]


def _efficacy(checks: Sequence[EditCheck], base: Sequence[EditCheck], limits: GateLimits) -> Gate:
    """Judge the edits' own checks; a paired test says how sure the change from the base is."""
    held, before = [check.passed for check in checks], [check.passed for check in base]
    gate = judge_level("efficacy", held, limits.efficacy, base=before, what="edits answered by the weights")
    known = [check.preferred for check in checks if check.preferred is not None]
    words = f"; the target is likelier than the old answer for {sum(known)} of {len(known)}" if known else ""
    return _tested(replace(gate, reason=gate.reason + words), before, held)


def _paraphrase(checks: Sequence[EditCheck], base: Sequence[EditCheck], limits: GateLimits) -> Gate:
    held = [passed for check in checks for passed in check.paraphrases]
    before = [passed for check in base for passed in check.paraphrases]
    what = "stored paraphrases answered by the weights"
    return _tested(judge_level("paraphrase", held, limits.paraphrase, base=before, what=what), before, held)


def _tested(gate: Gate, before: Sequence[bool], held: Sequence[bool]) -> Gate:
    if not held:
        return gate
    test = mcnemar(before, held)
    return replace(gate, p_value=test.p_value, test=test.test)


def _specificity(base: Measured, candidate: Measured, limits: GateLimits) -> Gate:
    """Judge how much of the base's own answers to other prompts the candidate would say otherwise, token by token."""
    if not base.forced:
        return Gate("specificity", Verdict.SKIPPED, "there are no prompts that no edit is about")
    kept = [
        sum(a == b for a, b in zip(one.predicted, two.predicted, strict=True)) / len(one.predicted)
        for one, two in zip(base.forced, candidate.forced, strict=True)
    ]
    test = paired_bootstrap([100.0] * len(kept), [100.0 * share for share in kept])
    return judge_harm(
        "specificity",
        _fallen(test),
        limits.specificity,
        significance=limits.significance,
        candidate=100.0 * sum(kept) / len(kept),
        base=100.0,
        unit="%",
        what="of the answers to other prompts change:",
    )


def _perplexity(base: Measured, candidate: Measured, limits: GateLimits) -> Gate:
    if not base.windows:
        return Gate("perplexity", Verdict.SKIPPED, "there is no text")
    losses = [[-sum(s.logprobs) / len(s.logprobs) for s in measured.windows] for measured in (base, candidate)]
    test = paired_bootstrap(*losses)
    return judge_harm(
        "perplexity",
        _risen(test),
        limits.perplexity,
        significance=limits.significance,
        candidate=perplexity(candidate.windows, seed=0).value,
        base=perplexity(base.windows, seed=0).value,
        unit="%",
        what="perplexity of a window changes by",
    )


def _capability(probes: Probes, base: Measured, candidate: Measured, limits: GateLimits) -> Gate:
    if not probes.questions:
        return Gate("capability", Verdict.SKIPPED, "there are no questions")
    before, right_before = accuracy(probes.questions, base.choices)
    after, right_after = accuracy(probes.questions, candidate.choices)
    return judge_harm(
        "capability",
        _fallen(mcnemar(right_before, right_after)),
        limits.capability,
        significance=limits.significance,
        candidate=after.value,
        base=before.value,
        unit="points",
        what="questions answered rightly drop by",
    )


def _canaries(probes: Probes, base: Measured, candidate: Measured, limits: GateLimits) -> Gate:
    held, before, fallen = [], [], []
    for canary, old, new in zip(probes.canaries, base.canaries, candidate.canaries, strict=True):
        before.append(_sings(canary.contains, canary.absent, old, old))
        held.append(_sings(canary.contains, canary.absent, new, old))
        if not held[-1]:
            fallen.append(f"{canary.prompt!r} gives {new[:60]!r}")
    gate = judge_level("canary", held, limits.canary, base=before, what="canaries that hold")
    return replace(gate, reason="; ".join([gate.reason, *fallen[:5]]))


def _collapse(base: Measured, candidate: Measured, limits: GateLimits) -> Gate:
    """Judge the mean perplexity of a sentence, in which a single broken one shows."""
    if not base.sentences:
        return Gate("collapse", Verdict.SKIPPED, "there are no sentences")
    before, after = (sentence_perplexities(measured.sentences) for measured in (base, candidate))
    gate = judge_harm(
        "collapse",
        as_harm(rise(before, after)),
        limits.collapse,
        significance=limits.significance,
        candidate=sum(after) / len(after),
        base=sum(before) / len(before),
        unit="%",
        what="the mean perplexity of a sentence changes by",
    )
    return replace(gate, reason=f"{gate.reason}; broken sentences: {sum(broken(before, after))}")


def _sings(contains: str | None, absent: str | None, answer: str, base: str) -> bool:
    if contains is not None:
        return is_contained(answer, [contains])
    if absent is not None:
        return not is_contained(answer, [absent])
    return answer == base


def _risen(test: PairedTest) -> Harm:
    """Return the harm of losses (nats a token) that rise, in percent of the perplexity."""
    values = (test.difference, test.ci_low, test.ci_high)
    rise, low, high = (100.0 * math.expm1(min(nats, 50.0)) for nats in values)
    return Harm(rise, low, high, test.p_value, test.n, test.test)


def _fallen(test: PairedTest) -> Harm:
    """Return the harm of shares that fall, in percentage points."""
    return Harm(-test.difference, -test.ci_high, -test.ci_low, test.p_value, test.n, test.test)
