"""QAEdit (arXiv 2502.11177): real questions that models get wrong."""

from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.datasets.reading import Record
from memedit.types import EditDraft


def parse(record: Record) -> Case:
    """Return the case of one row; ``locality`` is a list of unrelated questions."""
    prompt, target = record.text("prompt"), record.text("target")
    edit = EditDraft(prompt, target, subject=record.optional_text("subject"))
    probes = [
        Probe(ProbeKind.EDIT, prompt, (target,)),
        Probe(ProbeKind.PARAPHRASE, record.text("rephrase"), (target,)),
    ]
    for item in record.records("locality"):
        probes.append(Probe(ProbeKind.LOCALITY, item.text("loc"), item.texts("loc_ans")))
    return Case(record.line, (edit,), tuple(probes))
