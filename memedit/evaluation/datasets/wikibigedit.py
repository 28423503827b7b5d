"""WikiBigEdit (arXiv 2503.05683): real changes of Wikidata, with close neighbours as locality prompts."""

from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.datasets.reading import Record
from memedit.types import EditDraft


def parse(record: Record) -> Case:
    """Return the case of one row."""
    prompt, target = record.text("prompt"), record.text("target_new")
    edit = EditDraft(prompt, target, subject=record.text("subject"))
    probes = (
        Probe(ProbeKind.EDIT, prompt, (target,)),
        Probe(ProbeKind.PARAPHRASE, record.text("rephrase_prompt"), (target,)),
        Probe(ProbeKind.LOCALITY, record.text("locality_prompt"), record.texts("locality_ground_truth")),
    )
    return Case(record.line, (edit,), probes)
