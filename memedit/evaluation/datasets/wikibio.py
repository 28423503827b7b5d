"""WikiBio of KnowEdit (arXiv 2401.01286): a passage whose next sentence is corrected."""

from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.datasets.knowedit import LOCALITY, probes_of
from memedit.evaluation.datasets.reading import Record
from memedit.types import EditDraft, EditKind


def parse(record: Record) -> Case:
    """Return the case of one row: ``labels`` is how the passage ``text`` is to go on."""
    prompt, target = record.text("text"), record.text("labels")
    edit = EditDraft(prompt, target, subject=record.text("concept"), kind=EditKind.LONG_FORM)
    probes = [Probe(ProbeKind.EDIT, prompt, (target,)), *probes_of(record, "locality", LOCALITY)]
    return Case(record.line, (edit,), tuple(probes), long_form=True)
