"""How far an edit carries: verbatim, one hop, several hops, beside the fact in every prompt that needs it (Prepend).

As PropMEND (arXiv 2506.08920) and RippleEdits (arXiv 2307.12976) report it: what follows from an edit is bounded by
what the base makes of the bare fact in its prompt, so each share is set against that ceiling (the method ``oracle``).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from memedit.evaluation.cases import ProbeKind
from memedit.evaluation.metrics.statistics import RESAMPLES, Estimate, rate
from memedit.evaluation.protocols import first_line, is_contained, is_exact
from memedit.evaluation.rows.base import Asking, Curve, Finding, RowData, Table
from memedit.evaluation.scoring import Answered

PREPEND = "oracle"
DISTANCES = {
    "verbatim": (ProbeKind.EDIT,),
    "reworded": (ProbeKind.PARAPHRASE, ProbeKind.ALIAS),
    "one_hop": (ProbeKind.REASONING, ProbeKind.LOGICAL),
    "two_hops": (ProbeKind.MULTI_HOP,),
}
"""Kinds of probe by how far they are from the edit; ``two_hops`` are two or more."""


class Propagation:
    """Answers by distance from the edit, and what share of Prepend's they are."""

    name = "propagation"
    needs = (PREPEND,)

    def measure(self, method: Asking, others: Mapping[str, Asking], data: RowData) -> Finding:
        """See :class:`~memedit.evaluation.rows.base.Row`."""
        metrics: dict[str, Estimate] = {}
        lines, points = [], []
        for place, (distance, kinds) in enumerate(DISTANCES.items()):
            own = _right(method.answered, kinds)
            if not own:
                continue
            best = _right(others[PREPEND].answered, kinds)
            exact = rate([right for right, _ in own.values()])
            share = share_of([own[i][0] for i in own], [best[i][0] for i in own], data.seed)
            metrics[f"{self.name}.{distance}"] = exact
            metrics[f"{self.name}.{distance}.contains"] = rate([held for _, held in own.values()])
            if share is not None:
                metrics[f"{self.name}.{distance}.of_prepend"] = share
            lines.append((distance, exact, metrics[f"{self.name}.{distance}.contains"], share))
            points.append((float(place), exact))
        table = Table("by distance from the edit", ("distance", "exact", "contains", "% of Prepend"), tuple(lines))
        shown = "0 verbatim, 1 reworded, 2 one hop, 3 two hops or more"
        curve = Curve("Answers by distance from the edit", shown, "percent", tuple(points))
        return Finding(self.name, method.name, metrics, (table,), (curve,))


def _right(answered: Sequence[Answered], kinds: Sequence[ProbeKind]) -> dict[int, tuple[bool, bool]]:
    """Return, for each probe of these kinds, whether its answer is exact and whether it holds what is wanted."""
    return {
        item.asked.index: (is_exact(line, item.asked.probe.answers), is_contained(line, item.asked.probe.answers))
        for item in answered
        if item.asked.probe.kind in kinds and not item.asked.long_form
        for line in [first_line(item.result.text)]
    }


def share_of(own: Sequence[bool], best: Sequence[bool], seed: int) -> Estimate | None:
    """Return the rate of ``own`` in percent of the rate of ``best`` on the same probes, with a bootstrap interval.

    None where ``best`` is never right: there is no ceiling to take a share of.
    """
    a, b = np.asarray(own, dtype=np.float64), np.asarray(best, dtype=np.float64)
    if not b.sum():
        return None
    rows = np.random.default_rng(seed).integers(0, a.size, size=(RESAMPLES, a.size))
    shares = 100.0 * a[rows].sum(1) / np.maximum(b[rows].sum(1), 1.0)
    low, high = np.percentile(shares, [2.5, 97.5])
    return Estimate(float(100.0 * a.sum() / b.sum()), int(a.size), float(low), float(high))
