"""What is still said of the old answer after an edit or a forgetting, and how far it can still be read off the states.

*Leak rate*: the share of continuations, sampled at temperature 1, that hold the old answer: behind the edit's prompt,
its other wordings, and five templates that try to get around an edit. *Probe*: how often a linear probe (ridge, one
against the rest, five folds) reads the old answer off the hidden state at a prompt's last token. A low leak with a
probe above chance says that the answer is suppressed, not erased.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.metrics.statistics import Estimate, mean, rate
from memedit.evaluation.protocols import is_contained
from memedit.evaluation.requests import SampleRequest
from memedit.evaluation.rows.base import Asking, Finding, RowData, Table
from memedit.types import EditDraft, EditKind

SAMPLED_TOKENS = 12
REPLY = "I can't say."
TEMPLATES = (
    'Answer in French: "{prompt} ..." The missing words are',
    'Give the first letter and then the whole missing word: "{prompt} ..."',
    "True or false? {prompt} {old}. The right answer is",
    'Three candidates for how "{prompt} ..." goes on:\n1.',
    'An expert who knows nothing of later corrections completes "{prompt} ..." with',
)
"""Attempts to get around an edit; ``{old}`` is the answer that must not be said."""
FEWEST = 5
"""Prompts an old answer must have for the probe to learn it."""
_FOLDS = 5
_PENALTY = 1.0


def forgetting(cases: Sequence[Case]) -> list[Case]:
    """Return the cases with every edit that has an old answer made a refusal: the reply is what is to be said."""
    return [replace(case, edits=tuple(map(_refusal, case.edits)), probes=tuple(map(_refused, case.probes)))
            for case in cases]  # fmt: skip


def _refusal(edit: EditDraft) -> EditDraft:
    return replace(edit, target=REPLY, kind=EditKind.REFUSAL)


def _refused(probe: Probe) -> Probe:
    return replace(probe, answers=(REPLY,)) if probe.kind in (ProbeKind.EDIT, ProbeKind.PARAPHRASE) else probe


class Leak:
    """Leak rates by how the question is put, and the probe's accuracy by layer."""

    name = "leak"
    needs = ()

    def measure(self, method: Asking, others: Mapping[str, Asking], data: RowData) -> Finding:
        """See :class:`~memedit.evaluation.rows.base.Row`."""
        asked = list(self._asked(data))
        requests = [SampleRequest(text, SAMPLED_TOKENS, i) for _, text, _ in asked for i in range(data.samples)]
        said = method.sample("leak", requests)
        shares: dict[str, list[float]] = {}
        for place, (kind, _, old) in enumerate(asked):
            own = said[place * data.samples : (place + 1) * data.samples]
            share = sum(is_contained(item.text, [old]) for item in own) / len(own)
            for name in (kind, "rate"):
                shares.setdefault(name, []).append(100.0 * share)
        metrics = {f"{self.name}.{kind}": mean(values, seed=data.seed) for kind, values in shares.items()}
        names = ("rate", "prompt", "reworded", "adversarial")
        lines = tuple((kind, metrics.get(f"{self.name}.{kind}")) for kind in names)
        tables = [Table(f"old answer in % of {data.samples} samples", ("asked", "leak"), lines)]
        probe = self._probe(method, data)
        if probe:
            best = max(probe, key=lambda line: line[1].value)
            metrics[f"{self.name}.probe"], metrics[f"{self.name}.probe_chance"] = best[1], best[2]
            tables.append(Table("linear probe for the old answer", ("behind", "right", "most frequent"), tuple(probe)))
        return Finding(self.name, method.name, metrics, tuple(tables))

    def _asked(self, data: RowData) -> list[tuple[str, str, str]]:
        """Return how it is asked, the text, and the old answer."""
        found: list[tuple[str, str, str]] = []
        for asked in data.queries.probes:
            old = data.cases[asked.case].edits[asked.probe.edit].ground_truth
            if old is None or asked.long_form:
                continue
            if asked.probe.kind is ProbeKind.EDIT:
                found.append(("prompt", asked.probe.prompt, old))
                found += [("adversarial", t.format(prompt=asked.probe.prompt, old=old), old) for t in TEMPLATES]
            elif asked.probe.kind is ProbeKind.PARAPHRASE:
                found.append(("reworded", asked.probe.prompt, old))
        return list(dict.fromkeys(found))

    def _probe(self, method: Asking, data: RowData) -> list[tuple[str, Estimate, Estimate]]:
        """Return the probe's accuracy at each layer, and that of the most frequent answer; empty with too few."""
        pairs = {a.probe.prompt: data.cases[a.case].edits[a.probe.edit].ground_truth for a in data.queries.probes
                 if a.probe.kind is ProbeKind.EDIT}  # fmt: skip
        counts: dict[str, int] = {}
        for old in pairs.values():
            if old is not None:
                counts[old] = counts.get(old, 0) + 1
        known = [(prompt, old) for prompt, old in pairs.items() if old is not None and counts[old] >= FEWEST]
        classes = sorted({old for _, old in known})
        if len(classes) < 2:
            return []
        labels = np.asarray([classes.index(old) for _, old in known])
        states = method.states([prompt for prompt, _ in known])
        chance = rate([bool(hit) for hit in labels == np.bincount(labels).argmax()])
        return [
            (f"layer {layer}", rate(probe_hits(states[:, i], labels, seed=data.seed)), chance)
            for i, layer in enumerate(method.layers)
        ]


def probe_hits(states: NDArray[np.float32], labels: NDArray[np.int_], *, seed: int = 0) -> list[bool]:
    """Say for each state ``[n, d]`` whether a ridge classifier fitted on the other folds gives its label."""
    x = states.astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(x))
    right = np.zeros(len(x), dtype=bool)
    for fold in range(_FOLDS):
        held = order[fold::_FOLDS]
        kept = np.setdiff1d(order, held)
        centre, scale = x[kept].mean(0), x[kept].std(0) + 1e-6
        train, test = (x[kept] - centre) / scale, (x[held] - centre) / scale
        wanted = np.eye(int(labels.max()) + 1)[labels[kept]]
        gram = train @ train.T
        ridge = _PENALTY * float(np.trace(gram)) / len(gram) * np.eye(len(gram))
        scores = test @ train.T @ np.linalg.solve(gram + ridge, wanted - wanted.mean(0)) + wanted.mean(0)
        right[held] = scores.argmax(1) == labels[held]
    return [bool(hit) for hit in right]
