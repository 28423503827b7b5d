"""zsRE question answering (Levy et al. 2017) in the form of MEND (arXiv 2110.11309) and its successors."""

from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.datasets.reading import Record
from memedit.types import EditDraft


def parse(record: Record) -> Case:
    """Return the case of one row: ``alt`` is the new answer, ``answers`` the old ones."""
    prompt, target = record.text("src"), record.text("alt")
    old = next(iter(record.texts("answers")), None)
    edit = EditDraft(prompt, target, subject=record.text("subject"), ground_truth=old)
    probes = (
        Probe(ProbeKind.EDIT, prompt, (target,), old),
        Probe(ProbeKind.PARAPHRASE, record.text("rephrase"), (target,), old),
        Probe(ProbeKind.LOCALITY, record.text("loc"), record.texts("loc_ans")),
    )
    return Case(record.line, (edit,), probes)
