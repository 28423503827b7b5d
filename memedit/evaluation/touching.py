"""Which prompts the edits in force touch, and so cannot be asked to stay as they were."""

from collections.abc import Mapping

from memedit.evaluation.cases import Probe, ProbeKind
from memedit.evaluation.protocols import normalise_answer
from memedit.index.subjects import SubjectIndex
from memedit.types import EditDraft


class TouchedPrompts:
    """Finds the edits whose subject occurs in a prompt, or whose prompt or paraphrase it is.

    Args:
        edits: the edits in force, by their place in the stream.
    """

    def __init__(self, edits: Mapping[int, EditDraft]) -> None:
        self._prompts: dict[str, set[int]] = {}
        self._subjects = SubjectIndex()
        for place, edit in edits.items():
            for text in (edit.prompt, *edit.paraphrases):
                self._prompts.setdefault(normalise_answer(text), set()).add(place)
            if edit.subject is not None and edit.subject.strip():
                self._subjects.add(place, edit.subject)

    def touching(self, prompt: str) -> frozenset[int]:
        """Return the places of the edits that touch ``prompt``."""
        by_subject = {match.id for match in self._subjects.find(prompt)}
        return frozenset(by_subject | self._prompts.get(normalise_answer(prompt), set()))

    def is_touched(self, probe: Probe, own: frozenset[int]) -> bool:
        """Say whether the base's answer can no longer be asked for on this probe.

        A locality prompt is touched when any edit touches it. A specificity prompt names its own edits' subject by
        design: it is touched when another edit touches it, or when it is itself the prompt of an edit. ``own`` are
        the places of the case's edits.
        """
        touching = self.touching(probe.prompt)
        if probe.kind is ProbeKind.LOCALITY:
            return bool(touching)
        return bool(touching - own) or normalise_answer(probe.prompt) in self._prompts
