"""What is asked of an edited model: cases, each with its edits and the probes that judge them."""

from dataclasses import dataclass
from enum import StrEnum

from memedit.types import EditDraft


class ProbeKind(StrEnum):
    """What a probe looks at."""

    EDIT = "edit"
    """The edit's own prompt: the target is wanted."""
    PARAPHRASE = "paraphrase"
    """Another wording of the edit's prompt: the target is wanted."""
    LOCALITY = "locality"
    """A prompt about something else: the untouched base's answer is wanted."""
    SPECIFICITY = "specificity"
    """The edit's subject, another relation: the untouched base's answer is wanted."""
    FORGETFULNESS = "forgetfulness"
    """The edit's subject and relation, another value of it (KnowEdit); the base's answer is wanted."""
    REASONING = "portability.reasoning"
    """A question that needs the edit as one step."""
    ALIAS = "portability.alias"
    """The edit's question with the subject under another name."""
    LOGICAL = "portability.logical_generalization"
    """A consequence of the edit by symmetry or another rule (KnowEdit)."""
    MULTI_HOP = "portability.multi_hop"
    """A question over several facts, at least one of them edited (MQuAKE)."""


WANTS_TARGET = frozenset(
    {
        ProbeKind.EDIT,
        ProbeKind.PARAPHRASE,
        ProbeKind.REASONING,
        ProbeKind.ALIAS,
        ProbeKind.LOGICAL,
        ProbeKind.MULTI_HOP,
    }
)
"""Kinds whose answer is judged against the data; all others are judged against the untouched base."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One prompt of a case.

    ``answers`` are the acceptable answers, the canonical one first; empty where the data has none (only possible for
    kinds judged against the base). ``contrast`` is the answer that must be less likely than ``answers[0]`` in ROME's
    probability tests: the old answer on edit and paraphrase prompts, the new target on neighbours; None where the
    data has no such pair. ``edit`` is the place in ``case.edits`` of the edit the probe belongs to.
    """

    kind: ProbeKind
    prompt: str
    answers: tuple[str, ...]
    contrast: str | None = None
    edit: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """One row of a data set: the edits it makes (several in MQuAKE) and its probes. ``line`` is its line in the file.

    ``long_form`` cases are scored by ROUGE-L, all others by matching.
    """

    line: int
    edits: tuple[EditDraft, ...]
    probes: tuple[Probe, ...]
    long_form: bool = False
