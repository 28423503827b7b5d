"""Perplexing knowledge: are edits that the model finds unlikely harder to make? (arXiv 2406.17253, first version.)

The perplexingness of an edit is ``x = -log p_base(target | prompt)``, natural logarithm, before anything is edited.
Reported is Spearman's rank correlation of x with success, and success by fifths of x. The published finding is a
negative correlation for editors of weights; a memory that reads the edit has no reason to have one.
"""

import math
from collections.abc import Mapping, Sequence

from memedit.evaluation.cases import ProbeKind
from memedit.evaluation.metrics.statistics import Estimate, mean, rate, spearman
from memedit.evaluation.protocols import first_line, is_exact
from memedit.evaluation.requests import ScoreRequest, continuation
from memedit.evaluation.rows.base import Asking, Curve, Finding, RowData, Table
from memedit.evaluation.stream import AskedProbe

FIFTHS = 5
LEVELS = ("hyponyms", "hypernyms")
"""What the first and the second edit of a row of the ``hierarchy`` form are about."""


class Perplexingness:
    """Rank correlation of an edit's unlikeliness with what came of it, and fifths of unlikeliness."""

    name = "perplexingness"
    needs = ()

    def measure(self, method: Asking, others: Mapping[str, Asking], data: RowData) -> Finding:
        """See :class:`~memedit.evaluation.rows.base.Row`."""
        edits = [asked for asked in data.queries.probes if asked.probe.kind is ProbeKind.EDIT]
        requests = [ScoreRequest(a.probe.prompt, continuation(a.probe.prompt, a.probe.answers[0])) for a in edits]
        before = [-sum(s.logprobs) for s in others["base"].score("edits", requests)]
        after = [sum(s.logprobs) for s in method.score("edits", requests)]
        right = {item.asked.index: is_exact(first_line(item.result.text), item.asked.probe.answers)
                 for item in method.answered}  # fmt: skip
        held = [right[asked.index] for asked in edits]
        reworded = _reworded(data, right, dict(zip([(a.case, a.probe.edit) for a in edits], before, strict=True)))
        metrics = {f"{self.name}.nats": mean(before, seed=data.seed)}
        for name, xs, ys in (
            ("rho", before, [float(h) for h in held]),
            ("rho_reworded", [x for x, _ in reworded], [float(r) for _, r in reworded]),
            ("rho_probability", before, after),
        ):
            found = spearman(xs, ys, seed=data.seed)
            if found is not None:
                metrics[f"{self.name}.{name}"] = found
        tables, curve = _fifths(before, held, reworded)
        if data.format == "hierarchy":
            tables = (*tables, _levels(edits, before, held, data.seed))
        facts = {"constant": [n for n in ("rho", "rho_reworded") if f"{self.name}.{n}" not in metrics]}
        return Finding(self.name, method.name, metrics, tables, (curve,), facts)


def _reworded(
    data: RowData, right: Mapping[int, bool], nats: Mapping[tuple[int, int], float]
) -> list[tuple[float, bool]]:
    """Return perplexingness of the edit, and success, of every other wording that was asked."""
    return [
        (nats[asked.case, asked.probe.edit], right[asked.index])
        for asked in data.queries.probes
        if asked.probe.kind is ProbeKind.PARAPHRASE and not asked.long_form and (asked.case, asked.probe.edit) in nats
    ]


def _fifths(
    nats: Sequence[float], held: Sequence[bool], reworded: Sequence[tuple[float, bool]]
) -> tuple[tuple[Table, ...], Curve]:
    """Return success by fifths of perplexingness: the edits' own prompts, and other wordings of them."""
    bounds = sorted(nats)
    ends = [bounds[min(len(bounds) - 1, math.ceil(len(bounds) * i / FIFTHS) - 1)] for i in range(1, FIFTHS + 1)]
    lines, points = [], []
    low = -math.inf
    for number, high in enumerate(ends, start=1):
        own = [ok for x, ok in zip(nats, held, strict=True) if low < x <= high]
        other = [ok for x, ok in reworded if low < x <= high]
        reliability, generality = (rate(part) if part else None for part in (own, other))
        lines.append((float(number), high, reliability, generality))
        drawn = generality or reliability
        if drawn is not None:
            points.append((float(number), drawn))
        low = high
    columns = ("fifth", "up to nats", "success", "success, reworded")
    table = Table("success by fifths of -log p(target | prompt)", columns, tuple(lines))
    curve = Curve("Success (other wordings) by fifths of perplexingness", "fifth", "percent", tuple(points))
    return (table,), curve


def _levels(edits: Sequence[AskedProbe], nats: Sequence[float], held: Sequence[bool], seed: int) -> Table:
    """Return perplexingness and success of edits about the narrower and about the wider concept."""
    lines: list[tuple[str, Estimate, Estimate]] = []
    for place, level in enumerate(LEVELS):
        own = [i for i, asked in enumerate(edits) if asked.probe.edit == place]
        if own:
            lines.append((level, mean([nats[i] for i in own], seed=seed), rate([held[i] for i in own])))
    return Table("by level of the concept", ("edits of", "nats", "success"), tuple(lines))
