"""Pairs of a concept and its wider one, after the hierarchy of perplexing knowledge (arXiv 2406.17253, first version).

Our own sixty pairs ship as ``hierarchy.jsonl`` (CC0). Each row makes two edits, about the narrower concept and
about the wider one: "A sparrow is a kind of" and "A bird is a kind of" both get a target that is wrong.
"""

from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.datasets.reading import Record
from memedit.types import EditDraft


def parse(record: Record) -> Case:
    """Return the case of one row: ``hyponym``, ``hypernym``, the hypernym's own ``above``, and ``target``."""
    target = record.text("target")
    edits, probes = [], []
    for place, (name, above) in enumerate((("hyponym", "hypernym"), ("hypernym", "above"))):
        subject, old = record.text(name), record.text(above)
        prompt = f"{_article(subject).capitalize()} {subject} is a kind of"
        edits.append(EditDraft(prompt, target, subject=subject, ground_truth=old))
        probes.append(Probe(ProbeKind.EDIT, prompt, (target,), old, edit=place))
        question = f"What kind of thing is {_article(subject)} {subject}? It is a kind of"
        probes.append(Probe(ProbeKind.PARAPHRASE, question, (target,), old, edit=place))
    return Case(record.line, tuple(edits), tuple(probes))


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
