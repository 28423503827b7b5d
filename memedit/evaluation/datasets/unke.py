"""UnKE (arXiv 2405.15349): long, unstructured answers."""

from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.datasets.reading import Record
from memedit.types import EditDraft, EditKind


def parse(record: Record) -> Case:
    """Return the case of one row. The sub-questions are not probed: their answers are not those of any edit prompt."""
    prompt, target = record.text("question"), record.text("answer")
    probes = (
        Probe(ProbeKind.EDIT, prompt, (target,)),
        Probe(ProbeKind.PARAPHRASE, record.text("para_question"), (target,)),
    )
    return Case(record.line, (EditDraft(prompt, target, kind=EditKind.LONG_FORM),), probes, long_form=True)
