"""CounterFact (Meng et al., arXiv 2202.05262), flat as RECIPE and EasyEdit ship it, or nested as first published."""

from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.datasets.reading import Record
from memedit.types import EditDraft


def parse(record: Record) -> Case:
    """Return the case of one row."""
    return _nested(record) if record.has("requested_rewrite") else _flat(record)


def _flat(record: Record) -> Case:
    prompt, target = record.text("prompt"), record.text("target_new")
    old = record.optional_text("ground_truth")
    probes = [Probe(ProbeKind.EDIT, prompt, (target,), old)]
    probes.append(Probe(ProbeKind.PARAPHRASE, record.text("rephrase_prompt"), (target,), old))
    neighbour = record.text("locality_prompt")
    truth = record.text("locality_ground_truth")
    probes.append(Probe(ProbeKind.LOCALITY, neighbour, (truth,), target))
    edit = EditDraft(prompt, target, subject=record.text("subject"), ground_truth=old)
    return Case(record.line, (edit,), tuple(probes))


def _nested(record: Record) -> Case:
    rewrite = record.record("requested_rewrite")
    subject = rewrite.text("subject")
    template = rewrite.text("prompt")
    if "{}" not in template:
        raise rewrite.error("expected '{}' where the subject goes", "prompt")
    prompt = template.replace("{}", subject)
    target = rewrite.record("target_new").text("str")
    old = rewrite.record("target_true").text("str")
    probes = [Probe(ProbeKind.EDIT, prompt, (target,), old)]
    probes += [Probe(ProbeKind.PARAPHRASE, text, (target,), old) for text in record.texts("paraphrase_prompts")]
    probes += [Probe(ProbeKind.LOCALITY, text, (old,), target) for text in record.texts("neighborhood_prompts")]
    edit = EditDraft(prompt, target, subject=subject, ground_truth=old)
    return Case(record.line, (edit,), tuple(probes))
