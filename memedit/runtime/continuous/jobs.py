"""One answer on its way through the batch."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

from memedit.adapters.base import Row
from memedit.models.weights import WeightOverlay
from memedit.runtime.continuous.sampling import TokenChoice, TokenChooser
from memedit.runtime.structured import Constraint
from memedit.runtime.target_bias import Prior
from memedit.types import Edit


@dataclass(slots=True, eq=False)
class Job:
    """An answer to be generated.

    ``key`` is the caller's name for it. ``row`` is what is fed, rewritten where edits fire; ``prompt`` the caller's own
    ids. ``edits`` fire on it, best first (empty: the bare model's answer). At most ``limit`` tokens are generated;
    ``ends`` end it. ``logprobs`` asks for log probabilities with so many alternatives. ``weights`` stand in the place
    of the model's own in every pass of this answer. ``prior`` is mixed into its decoding; ``constraint`` holds it to a
    structure.
    """

    key: Hashable
    row: Row
    prompt: tuple[int, ...]
    limit: int
    choice: TokenChoice = field(default_factory=TokenChoice)
    ends: frozenset[int] = frozenset()
    edits: tuple[Edit, ...] = ()
    artefacts: Mapping[str, bytes] = field(default_factory=dict)
    logprobs: int | None = None
    weights: WeightOverlay | None = None
    prior: Prior | None = None
    constraint: Constraint | None = None
    tokens: list[int] = field(default_factory=list)
    chooser: TokenChooser = field(init=False)

    def __post_init__(self) -> None:
        self.chooser = TokenChooser(self.choice, self.prompt)

    @property
    def fed(self) -> Row:
        """What is read when it joins: its row, and what it has said already where it comes back after a failed pass."""
        return self.row if not self.tokens else replace(self.row, ids=(*self.row.ids, *self.tokens))

    @property
    def longest(self) -> int:
        """Columns that it may come to need."""
        return len(self.row.ids) + self.limit

    @property
    def ended(self) -> bool:
        """Whether the last token was its last."""
        over = bool(self.tokens) and (self.tokens[-1] in self.ends or self.whole)
        return over or len(self.tokens) >= self.limit

    @property
    def whole(self) -> bool:
        """Whether nothing can be added to its structure."""
        return self.constraint is not None and self.constraint.over

    def take(self, token: int) -> None:
        """Take the next token down.

        Raises:
            StructureError: the job's structure does not allow it.
        """
        self.chooser.took(token)
        self.tokens.append(token)
        if self.constraint is not None:
            self.constraint.follow(self.tokens)


@dataclass(frozen=True, slots=True)
class Step:
    """One new token of a job. ``logprob`` (nats) and ``top`` (token, log probability) only where asked for.

    ``last`` is True when the job has ended with it; it has left the batch then. So it has where its pass failed:
    ``error`` says how, and there is no token. The job can join again and goes on where it was.
    """

    job: Job
    token: int
    last: bool
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    error: Exception | None = None

    @classmethod
    def failed(cls, job: Job, error: Exception) -> "Step":
        """Return the step of a job whose pass failed."""
        return cls(job, -1, True, error=error)
