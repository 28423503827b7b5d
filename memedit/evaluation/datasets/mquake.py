"""MQuAKE-CF (arXiv 2305.14795): multi-hop questions over one to four edits."""

from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.datasets.reading import Record
from memedit.types import EditDraft


def parse(record: Record) -> Case:
    """Return the case of one row: each rewrite is an edit, its question a paraphrase of it."""
    edits, probes = [], []
    for i, rewrite in enumerate(record.records("requested_rewrite", some=True)):
        subject, template = rewrite.text("subject"), rewrite.text("prompt")
        if "{}" not in template:
            raise rewrite.error("expected '{}' where the subject goes", "prompt")
        prompt = template.replace("{}", subject)
        target = rewrite.record("target_new").text("str")
        old = rewrite.record("target_true").text("str")
        edits.append(EditDraft(prompt, target, subject=subject, ground_truth=old))
        probes.append(Probe(ProbeKind.EDIT, prompt, (target,), old, edit=i))
        probes.append(Probe(ProbeKind.PARAPHRASE, rewrite.text("question"), (target,), old, edit=i))
    aliases = record.texts("new_answer_alias") if record.has("new_answer_alias") else ()
    answers = tuple(dict.fromkeys((record.text("new_answer"), *aliases)))
    questions = record.texts("questions")
    if not questions:
        raise record.error("expected at least one question", "questions")
    probes += [Probe(ProbeKind.MULTI_HOP, question.strip(), answers) for question in questions]
    return Case(record.line, tuple(edits), tuple(probes))
