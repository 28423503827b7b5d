"""KnowEdit (arXiv 2401.01286): WikiData-CounterFact and WikiData-recent."""

from memedit.evaluation.cases import WANTS_TARGET, Case, Probe, ProbeKind
from memedit.evaluation.datasets.reading import Record
from memedit.types import EditDraft

LOCALITY = {"Relation_Specificity": ProbeKind.SPECIFICITY, "Forgetfulness": ProbeKind.FORGETFULNESS}
PORTABILITY = {
    "Reasoning": ProbeKind.REASONING,
    "Subject_Aliasing": ProbeKind.ALIAS,
    "Logical_Generalization": ProbeKind.LOGICAL,
}


def parse(record: Record) -> Case:
    """Return the case of one row. ``rephrase`` is optional; an answer is a string or lists of aliases."""
    prompt, target = record.text("prompt"), record.text("target_new")
    old = next(iter(record.texts("ground_truth")), None) if record.has("ground_truth") else None
    edit = EditDraft(prompt, target, subject=record.text("subject"), ground_truth=old)
    probes = [Probe(ProbeKind.EDIT, prompt, (target,), old)]
    for field in ("rephrase", "rephrase_prompt"):
        texts = record.texts(field) if record.has(field) else ()
        probes += [Probe(ProbeKind.PARAPHRASE, text, (target,), old) for text in texts]
    probes += probes_of(record, "portability", PORTABILITY)
    probes += probes_of(record, "locality", LOCALITY)
    return Case(record.line, (edit,), tuple(probes))


def probes_of(record: Record, field: str, kinds: dict[str, ProbeKind]) -> list[Probe]:
    """Return the probes of ``portability`` or ``locality``: lists of prompt and ground_truth by published name.

    A question without an answer is left out where its answer would be judged.

    Raises:
        DatasetError: a name that is not a published kind, or something else than lists of objects.
    """
    groups = record.record(field)
    probes = []
    for name in groups.values:
        if name not in kinds:
            raise groups.error(f"unknown kind of probe; known: {', '.join(kinds)}", name)
        for item in groups.records(name):
            answers = item.texts("ground_truth")
            if answers or kinds[name] not in WANTS_TARGET:
                probes.append(Probe(kinds[name], item.text("prompt"), answers))
    return probes
