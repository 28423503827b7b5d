"""The edits of a data set in the order they arrive, what remained in force, and which cases are asked about."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from memedit.errors import InputError
from memedit.evaluation.cases import Case, Probe
from memedit.evaluation.touching import TouchedPrompts
from memedit.types import EditDraft


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """How edits arrive: all at once (``chunk`` None) or in chunks of ``chunk``."""

    chunk: int | None = None

    @classmethod
    def parse(cls, text: str) -> "StreamOrder":
        """Read ``batch`` or ``sequential:SIZE``.

        Raises:
            InputError: the text is neither.
        """
        if text == "batch":
            return cls()
        kind, _, size = text.partition(":")
        if kind == "sequential" and size.isdecimal() and int(size) > 0:
            return cls(int(size))
        raise InputError(f"stream {text!r} is not known; give 'batch' or 'sequential:SIZE', e.g. sequential:100")

    def __str__(self) -> str:
        return "batch" if self.chunk is None else f"sequential:{self.chunk}"

    def chunks(self, edits: Sequence[EditDraft]) -> Iterator[Sequence[EditDraft]]:
        """Yield the edits as they arrive."""
        size = self.chunk or max(1, len(edits))
        for start in range(0, len(edits), size):
            yield edits[start : start + size]


@dataclass(frozen=True, slots=True)
class EditedState:
    """What a memory made of a stream: for each place of the stream the place of the edit that now stands for it.

    That is the place itself, or the first place of the same edit, or None where a later edit superseded it.
    """

    standing: tuple[int | None, ...]

    @property
    def superseded(self) -> int:
        """Count the places whose edit is no longer in force."""
        return sum(place is None for place in self.standing)


@dataclass(frozen=True, slots=True)
class AskedProbe:
    """A probe to ask. ``index`` is its place among all asked probes; ``case`` the place of its case in the file.

    ``own`` are the standing places of the edits that are right for it; ``touched`` says that an edit in force touches
    a prompt whose base answer would otherwise be wanted.
    """

    index: int
    case: int
    probe: Probe
    own: frozenset[int]
    touched: bool
    long_form: bool
    position: float
    """Where in the stream the case's first edit stands, from 0 (first) to 1 (last)."""


@dataclass(frozen=True, slots=True)
class Queries:
    """The sampled cases and their probes; ``in_force`` counts the cases that could have been sampled."""

    cases: tuple[int, ...]
    probes: tuple[AskedProbe, ...]
    in_force: int


def edits_of(cases: Sequence[Case]) -> list[EditDraft]:
    """Return the edits of all cases in stream order."""
    return [edit for case in cases for edit in case.edits]


def sample_queries(
    cases: Sequence[Case],
    state: EditedState,
    *,
    count: int | None = None,
    seed: int = 0,
    probes_per_kind: int | None = None,
    keep: Callable[[Case], bool] | None = None,
) -> Queries:
    """Choose the cases to ask about, among those whose edits are all in force, and lay out their probes.

    Args:
        cases: all cases of the stream.
        state: what the memory made of their edits.
        count: how many cases to draw without replacement; None asks all. The draw depends on ``seed`` alone.
        seed: seed of the draw.
        probes_per_kind: at most so many probes of one kind from one case.
        keep: says which cases may be asked about at all (rows held out from training, for instance).

    Raises:
        InputError: nothing is left to ask.
    """
    offsets = _offsets(cases)
    places = [range(offset, offset + len(case.edits)) for offset, case in zip(offsets, cases, strict=True)]
    eligible = [i for i in range(len(cases)) if all(state.standing[place] is not None for place in places[i])]
    in_force = len(eligible)
    if keep is not None:
        eligible = [i for i in eligible if keep(cases[i])]
    if not eligible:
        raise InputError(
            f"nothing to ask: of {len(cases)} cases {in_force} have their edits in force and none of them may be asked "
            "about; give more edits, or drop the filter on cases"
        )
    if count is not None and count < len(eligible):
        if count < 1:
            raise InputError(f"number of queries must be at least 1, got {count}")
        eligible = sorted(random.Random(seed).sample(eligible, count))
    drafts = edits_of(cases)
    touched = TouchedPrompts({p: drafts[p] for p in sorted({s for s in state.standing if s is not None})})
    probes = [
        asked
        for i in eligible
        for asked in _asked(cases[i], i, [state.standing[p] for p in places[i]], touched, probes_per_kind)
    ]
    last = max(1, len(drafts) - 1)
    numbered = (replace(p, index=k, position=offsets[p.case] / last) for k, p in enumerate(probes))
    return Queries(tuple(eligible), tuple(numbered), in_force)


def _offsets(cases: Sequence[Case]) -> list[int]:
    offsets, total = [], 0
    for case in cases:
        offsets.append(total)
        total += len(case.edits)
    return offsets


def _asked(
    case: Case, place: int, standing: Sequence[int | None], touched: TouchedPrompts, probes_per_kind: int | None
) -> Iterator[AskedProbe]:
    """Yield the probes of one case; ``standing`` are the standing places of its edits."""
    everything = frozenset(s for s in standing if s is not None)
    seen: Counter[str] = Counter()
    for probe in case.probes:
        seen[probe.kind] += 1
        if probes_per_kind is not None and seen[probe.kind] > probes_per_kind * len(case.edits):
            continue
        own = standing[probe.edit]
        right = everything if probe.kind.startswith("portability") or own is None else frozenset({own})
        is_touched = touched.is_touched(probe, everything)
        yield AskedProbe(0, place, probe, right, is_touched, case.long_form, 0.0)
