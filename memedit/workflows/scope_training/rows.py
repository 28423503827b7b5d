"""Edits with what is known to fall under them and what is known not to, from published data files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.datasets import guess_format, read_cases
from memedit.index import guess_subject
from memedit.scope.text import normalise
from memedit.types import EditDraft

_POSITIVE = {ProbeKind.PARAPHRASE: "paraphrase", ProbeKind.ALIAS: "alias"}
_HOPS = {ProbeKind.REASONING, ProbeKind.MULTI_HOP}
_NEGATIVE = {
    ProbeKind.LOCALITY: "locality",
    ProbeKind.SPECIFICITY: "specificity",
    ProbeKind.FORGETFULNESS: "forgetfulness",
}


@dataclass(frozen=True, slots=True)
class EditRow:
    """An edit of a data file with its probes, each as ``(kind, prompt)``.

    ``inside`` fall under the edit; ``outside`` do not. Questions that need the edit as one hop count as inside only if
    they name its subject: otherwise nothing in the text could tell.
    """

    source: str
    prompt: str
    target: str
    subject: str | None
    named: bool
    inside: tuple[tuple[str, str], ...]
    outside: tuple[tuple[str, str], ...]


def read_rows(files: Sequence[Path], *, max_rows: int) -> list[EditRow]:
    """Read the first ``max_rows`` edits of each file, in order, skipping repeated (prompt, target) pairs of a file.

    Raises:
        DatasetError: a file is of no known form or one of its rows is wrong.
    """
    rows: list[EditRow] = []
    for path in files:
        form = guess_format(path)
        seen: set[tuple[str, str]] = set()
        for case in read_cases(path, form, limit=max_rows):
            for number, draft in enumerate(case.edits):
                if (draft.prompt, draft.target) not in seen:
                    seen.add((draft.prompt, draft.target))
                    rows.append(_row(path.stem, case, number, draft))
    return rows


def _row(source: str, case: Case, number: int, draft: EditDraft) -> EditRow:
    subject = draft.subject or guess_subject(draft.prompt, draft.target)
    probes = [probe for probe in case.probes if probe.edit == number or probe.kind in _HOPS]
    return EditRow(
        source=source,
        prompt=draft.prompt,
        target=draft.target,
        subject=subject,
        named=draft.subject is not None,
        inside=tuple(_inside(probes, subject)),
        outside=tuple((_NEGATIVE[p.kind], p.prompt) for p in probes if p.kind in _NEGATIVE),
    )


def _inside(probes: Sequence[Probe], subject: str | None) -> list[tuple[str, str]]:
    found = [(_POSITIVE[probe.kind], probe.prompt) for probe in probes if probe.kind in _POSITIVE]
    name = normalise(subject or "")
    hops = [p.prompt for p in probes if p.kind in _HOPS and name and f" {name} " in f" {normalise(p.prompt)} "]
    return found + [("hop", prompt) for prompt in hops]
