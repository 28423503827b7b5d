"""What a version says of itself: its base, how it was solved for, and which edits its weights answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from memedit.consolidation.verdicts import Gate, Verdict
from memedit.errors import StoreCorruptError

RECORD = "memedit_version.json"
DELTA = "delta.safetensors"
BASE = "base.safetensors"
"""The frozen base's own values of the weights that a version changes."""
FORMAT = 1


class WeightScope(StrEnum):
    """Which rows of a batch meet a version's weights."""

    GATED = "gated"
    """Rows on which an edit fires that the weights answer; all others, and what adapters do, run on the base's."""
    ALWAYS = "always"
    """All rows: the version is a plain model."""


@dataclass(frozen=True, slots=True)
class SolvedEdit:
    """An edit in a version's weights, as it was when they were solved for.

    ``served`` says that it passed its own check, so that the weights answer for it; one that did not is answered from
    the memory although the weights lean its way. ``reason`` says why not. ``chat`` says whether they answer it as a
    chat turn too; None where the model has no chat turns. Weights often answer a plain prompt and not the chat.

    ``stored`` says of the prompt and of each stored paraphrase, in order, whether the weights answer it; ``right`` of
    all ``asked`` wordings, generated ones among them, they answer. ``any_wording`` says that this was enough to leave
    wordings to them that were not asked. Where nothing is ``stored`` (versions of before 0.3) only ``served`` is known.
    """

    id: str
    content_hash: str
    served: bool
    reason: str = ""
    chat: bool | None = None
    stored: tuple[bool, ...] = ()
    asked: int = 0
    right: int = 0
    any_wording: bool = True

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> "SolvedEdit":
        """Read plain values."""
        return cls(**{**fields, "stored": tuple(fields.get("stored", ()))})


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """The content of ``memedit_version.json``.

    ``base`` is the :class:`~memedit.models.identity.BaseRecord` of the frozen base as plain values and
    ``base_fingerprint`` its fingerprint; ``settings`` are the job's; ``samples`` are a few values of every changed
    weight, by parameter name, by which the weights are recognised in any dtype; ``norms`` hold for each changed weight
    the Frobenius norm of the change and of the base's weight. ``scope`` says which rows meet the weights.
    """

    name: str
    created_at: str
    namespace: str
    method: str
    base_name: str
    base_fingerprint: str
    base: Mapping[str, Any]
    settings: Mapping[str, Any]
    edits: tuple[SolvedEdit, ...]
    rejected: tuple[SolvedEdit, ...]
    """Edits of the job that failed their check in an earlier round and were left out of the solve."""
    gates: tuple[Gate, ...]
    verdict: Verdict
    reasons: tuple[str, ...]
    norms: Mapping[str, tuple[float, float]]
    samples: Mapping[str, Sequence[float]]
    seconds: Mapping[str, float] = field(default_factory=dict)
    memedit: str = ""
    scope: WeightScope = WeightScope.ALWAYS

    @property
    def gated(self) -> bool:
        """Whether only rows meet the weights on which an edit fires that these answer."""
        return self.scope is WeightScope.GATED

    @property
    def served(self) -> tuple[SolvedEdit, ...]:
        """The edits that the weights answer for."""
        return tuple(edit for edit in self.edits if edit.served)

    @property
    def served_in_chats(self) -> tuple[SolvedEdit, ...]:
        """The edits that the weights answer for in chats as well; all served ones where there are no chats."""
        return tuple(edit for edit in self.served if edit.chat is not False)

    @property
    def left_over(self) -> tuple[SolvedEdit, ...]:
        """The edits of the job that the memory goes on answering."""
        return (*(edit for edit in self.edits if not edit.served), *self.rejected)

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain values."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {
            "format": FORMAT,
            **fields,
            "edits": [asdict(edit) for edit in self.edits],
            "rejected": [asdict(edit) for edit in self.rejected],
            "gates": [gate.as_json() for gate in self.gates],
            "verdict": self.verdict.value,
            "scope": self.scope.value,
            "base": dict(self.base),
            "settings": dict(self.settings),
            "norms": {name: list(pair) for name, pair in self.norms.items()},
            "samples": {name: list(values) for name, values in self.samples.items()},
            "seconds": dict(self.seconds),
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any], source: str) -> "VersionRecord":
        """Read what :meth:`as_json` wrote.

        Raises:
            StoreCorruptError: it is not such a record, or one of a newer memedit.
        """
        fields = dict(document)
        if fields.pop("format", None) != FORMAT:
            raise StoreCorruptError(
                f"{source} has format {document.get('format')!r}, this memedit reads {FORMAT}; it is damaged or was "
                "written by a newer memedit"
            )
        try:
            return cls(
                **{
                    **fields,
                    "edits": tuple(SolvedEdit.parse(item) for item in fields["edits"]),
                    "rejected": tuple(SolvedEdit.parse(item) for item in fields["rejected"]),
                    "gates": tuple(Gate.parse(item) for item in fields["gates"]),
                    "verdict": Verdict(fields["verdict"]),
                    "scope": WeightScope(fields.get("scope", WeightScope.ALWAYS)),
                    "reasons": tuple(fields["reasons"]),
                    "norms": {name: (float(a), float(b)) for name, (a, b) in fields["norms"].items()},
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreCorruptError(f"{source} is no record of a version: {type(error).__name__}: {error}") from error


def write_record(folder: Path, record: VersionRecord) -> None:
    """Write a version's record into its folder."""
    text = json.dumps(record.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def read_record(folder: Path) -> VersionRecord | None:
    """Return the record in a checkpoint's folder; None when it is no version of ours.

    Raises:
        StoreCorruptError: there is one, and it is damaged.
    """
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        document = json.loads(text)
    except ValueError as error:
        raise StoreCorruptError(f"{folder / RECORD} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise StoreCorruptError(f"{folder / RECORD} is no record of a version")
    return VersionRecord.parse(document, str(folder / RECORD))
