"""From answers to metrics.

Metric names are those of ``results.json``; see docs/evaluation.md for what each means under each protocol. Every metric
is kept as single observations, so that it can be given an interval and two methods can be paired probe by probe.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from memedit.evaluation.answering import Firing, Generation, Scoring
from memedit.evaluation.cases import ProbeKind
from memedit.evaluation.metrics.statistics import Estimate, mean, rate
from memedit.evaluation.metrics.texts import rouge_l
from memedit.evaluation.protocols import first_line, is_contained, is_exact, is_prefix
from memedit.evaluation.stream import AskedProbe

NAMES = {ProbeKind.EDIT: "reliability", ProbeKind.PARAPHRASE: "generality"}
_FIFTH = 0.2
_UNCHANGED = (ProbeKind.LOCALITY, ProbeKind.SPECIFICITY, ProbeKind.FORGETFULNESS)


@dataclass(slots=True)
class Observations:
    """Observations by metric, each under the key of its probe (or case): truth values make a rate, numbers a mean.

    Means are of values in [0, 1] and given in percent, unless the metric is named in ``raw``.
    """

    values: dict[str, dict[int, bool | float]] = field(default_factory=dict)
    raw: set[str] = field(default_factory=set)

    def add(self, metric: str, key: int, value: bool | float) -> None:
        """Note one observation."""
        self.values.setdefault(metric, {})[key] = value

    def estimates(self, seed: int) -> dict[str, Estimate]:
        """Return every metric with its interval: Wilson's for rates, bootstrapped for means."""
        found: dict[str, Estimate] = {}
        for metric, by_key in self.values.items():
            values = list(by_key.values())
            if all(isinstance(value, bool) for value in values):
                found[metric] = rate([bool(value) for value in values])
            else:
                scale = 1.0 if metric in self.raw else 100.0
                found[metric] = mean([scale * value for value in values], seed=seed)
        return found


@dataclass(frozen=True, slots=True)
class Answered:
    """An asked probe with the method's result and, where it was asked too, the untouched base's."""

    asked: AskedProbe
    result: Generation
    base: Generation


@dataclass(frozen=True, slots=True)
class Forced:
    """An asked probe under teacher forcing: its answer and its contrast, by the method, and its answer by the base."""

    asked: AskedProbe
    answer: Scoring | None
    contrast: Scoring | None
    base: Scoring | None


def observe_generated(answered: Sequence[Answered], *, routed: bool) -> Observations:
    """Return the observations of the generate protocol; ``routed`` says that the method has a scope."""
    seen = Observations()
    for item in answered:
        asked = item.asked
        kind = asked.probe.kind
        if kind in _UNCHANGED:
            seen.add(unchanged_name(asked), asked.index, item.result.token_ids == item.base.token_ids)
        elif asked.long_form and kind in NAMES:
            _observe_long(seen, item)
        else:
            _observe_match(seen, item)
    _observe_any_hop(seen, answered)
    if routed:
        observe_routing(seen, [(item.asked, item.result.fired) for item in answered])
    return seen


def unchanged_name(asked: AskedProbe) -> str:
    """Return the metric of a probe that is judged against the base."""
    return f"{asked.probe.kind}_touched" if asked.touched else str(asked.probe.kind)


def _observe_match(seen: Observations, item: Answered) -> None:
    probe = item.asked.probe
    name, answer, key = NAMES.get(probe.kind, str(probe.kind)), first_line(item.result.text), item.asked.index
    seen.add(name, key, is_exact(answer, probe.answers))
    seen.add(f"{name}.contains", key, is_contained(answer, probe.answers))
    seen.add(f"{name}.prefix", key, is_prefix(answer, probe.answers))


def _observe_long(seen: Observations, item: Answered) -> None:
    name = "rouge_l" if item.asked.probe.kind is ProbeKind.EDIT else "rouge_l_paraphrase"
    score = rouge_l(first_line(item.result.text), item.asked.probe.answers[0])
    seen.add(name, item.asked.index, score.f1)
    seen.add(f"{name}.recall", item.asked.index, score.recall)


def _observe_any_hop(seen: Observations, answered: Sequence[Answered]) -> None:
    """MQuAKE's own count: a case is right when any of its multi-hop questions is."""
    by_case: dict[int, list[tuple[bool, bool]]] = {}
    for item in answered:
        probe = item.asked.probe
        if probe.kind is ProbeKind.MULTI_HOP:
            answer = first_line(item.result.text)
            both = is_exact(answer, probe.answers), is_contained(answer, probe.answers)
            by_case.setdefault(item.asked.case, []).append(both)
    for case, right in by_case.items():
        seen.add("portability.multi_hop.any", case, any(exact for exact, _ in right))
        seen.add("portability.multi_hop.any_contains", case, any(contained for _, contained in right))


def observe_routing(seen: Observations, fired: Sequence[tuple[AskedProbe, Sequence[Firing]]]) -> None:
    """Note which edits fired.

    ``routing_recall``: of edit and paraphrase prompts, those on which the right edit fired. ``routing_precision``: of
    all prompts on which an edit fired, those that are about the edit (edit, paraphrase, portability) and on which the
    right one did; prompts that another edit touches are left out, no edit is wrong there for sure. ``KIND.routed``:
    share of portability prompts with the right edit fired. ``KIND.silent``: share of prompts with no edit fired.
    """
    for asked, firings in fired:
        kind, key = asked.probe.kind, asked.index
        right = any(firing.edit in asked.own for firing in firings)
        if kind in NAMES:
            seen.add("routing_recall", key, right)
        elif kind in _UNCHANGED:
            seen.add(f"{unchanged_name(asked)}.silent", key, not firings)
        else:
            seen.add(f"{kind}.routed", key, right)
        if firings and not (kind in _UNCHANGED and asked.touched) and kind is not ProbeKind.FORGETFULNESS:
            seen.add("routing_precision", key, right and kind not in _UNCHANGED)


def observe_age(seen: Observations, asked: Sequence[AskedProbe]) -> None:
    """Note reliability and generality of the first and of the last fifth of the stream apart: is what is old lost?"""
    positions = {probe.index: probe.position for probe in asked}
    for metric in NAMES.values():
        for key, value in seen.values.get(metric, {}).items():
            if positions[key] < _FIFTH:
                seen.add(f"{metric}.early", key, value)
            elif positions[key] >= 1 - _FIFTH:
                seen.add(f"{metric}.late", key, value)


def observe_forced(forced: Sequence[Forced], *, routed: bool) -> Observations:
    """Return the observations of the teacher-forced protocol."""
    seen = Observations()
    for item in forced:
        asked = item.asked
        kind = asked.probe.kind
        if item.answer is None:
            continue
        if kind in _UNCHANGED:
            _observe_forced_unchanged(seen, item)
        else:
            name = NAMES.get(kind, str(kind))
            seen.add(name, asked.index, _share(item.answer.matches))
            seen.add(f"{name}.exact", asked.index, all(item.answer.matches))
        if item.contrast is not None:
            _observe_contrast(seen, item, item.answer, item.contrast)
    if routed:
        observe_routing(seen, [(item.asked, item.answer.fired) for item in forced if item.answer is not None])
    return seen


def _observe_forced_unchanged(seen: Observations, item: Forced) -> None:
    if item.answer is None or item.base is None:
        return
    same = [a == b for a, b in zip(item.answer.predicted, item.base.predicted, strict=True)]
    name = unchanged_name(item.asked)
    seen.add(name, item.asked.index, _share(same))
    seen.add(f"{name}.exact", item.asked.index, all(same))


def _observe_contrast(seen: Observations, item: Forced, answer: Scoring, contrast: Scoring) -> None:
    """ROME's tests: the answer is more likely than its contrast, by mean log-probability of a token."""
    kind = item.asked.probe.kind
    wins = _mean(answer.logprobs) > _mean(contrast.logprobs)
    if kind is ProbeKind.EDIT:
        seen.add("efficacy", item.asked.index, wins)
    elif kind is ProbeKind.PARAPHRASE:
        seen.add("paraphrase_efficacy", item.asked.index, wins)
    elif kind is ProbeKind.LOCALITY and not item.asked.touched:
        seen.add("specificity", item.asked.index, wins)


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("-inf")


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is not what it should be, for people to read; ``severity`` sorts, worst first."""

    dataset: str
    method: str
    protocol: str
    metric: str
    prompt: str
    wanted: str
    answer: str
    base: str
    fired: tuple[Firing, ...]
    severity: tuple[int, float]


def failures(dataset: str, method: str, answered: Sequence[Answered]) -> Iterator[Failure]:
    """Yield the generated answers that fail: a failed edit is worse than a failed paraphrase, and so on.

    Within a kind, the less an answer shares with what was wanted the worse it is (ROUGE-L F1).
    """
    order: Mapping[ProbeKind, int] = {
        ProbeKind.EDIT: 0, ProbeKind.LOCALITY: 1, ProbeKind.PARAPHRASE: 2, ProbeKind.SPECIFICITY: 3,
        ProbeKind.ALIAS: 4, ProbeKind.REASONING: 5, ProbeKind.MULTI_HOP: 6, ProbeKind.LOGICAL: 7,
    }  # fmt: skip
    for item in answered:
        probe = item.asked.probe
        if probe.kind not in order or (probe.kind in _UNCHANGED and item.asked.touched):
            continue
        wanted = first_line(item.base.text) if probe.kind in _UNCHANGED else probe.answers[0]
        answer = first_line(item.result.text)
        closeness = rouge_l(answer, wanted).f1
        if _passes(item, closeness):
            continue
        name = str(probe.kind) if probe.kind in _UNCHANGED else NAMES.get(probe.kind, str(probe.kind))
        yield Failure(
            dataset, method, "generate", name, probe.prompt, wanted, answer, first_line(item.base.text),
            item.result.fired, (order[probe.kind], closeness),
        )  # fmt: skip


def _passes(item: Answered, closeness: float) -> bool:
    probe = item.asked.probe
    if probe.kind in _UNCHANGED:
        return item.result.token_ids == item.base.token_ids
    if item.asked.long_form:
        return closeness >= 0.9
    return is_exact(first_line(item.result.text), probe.answers)


def worst(found: Sequence[Failure], count: int = 50) -> list[Failure]:
    """Return the worst failures, taken in turn from each data set, method and metric so that none crowds out others."""
    groups: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in sorted(found, key=lambda f: (f.severity, f.dataset, f.method, f.prompt)):
        groups.setdefault((failure.dataset, failure.method, failure.metric), []).append(failure)
    chosen: list[Failure] = []
    depth = 0
    while len(chosen) < count and any(len(group) > depth for group in groups.values()):
        chosen += [group[depth] for group in groups.values() if len(group) > depth]
        depth += 1
    return sorted(chosen[:count], key=lambda f: f.severity)
