"""Which weights answer whom, and which edits are in them: one object for both, so that they change together."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memedit.consolidation.held import EditsInWeights
from memedit.consolidation.records import VersionRecord
from memedit.server.problems import ApiError

if TYPE_CHECKING:
    from memedit.models.weights import WeightOverlay
    from memedit.types import ScopeDecision


@dataclass(frozen=True, slots=True, eq=False)
class ActiveVersion:
    """Weights that answer. ``record`` None is the plain base; ``overlay`` None takes the model as it was loaded.

    ``base`` are the frozen base's, which answer what a gated version does not; None takes the model as it was loaded.
    """

    record: VersionRecord | None = None
    overlay: "WeightOverlay | None" = None
    base: "WeightOverlay | None" = None
    edits: EditsInWeights = field(init=False)

    def __post_init__(self) -> None:
        held = EditsInWeights() if self.record is None else EditsInWeights(self.record.edits, self.record.scope)
        object.__setattr__(self, "edits", held)

    def answers(self, decision: "ScopeDecision | None") -> bool:
        """Whether a prompt of which this was decided meets these weights; a gated version's, only if they answer it."""
        return not self.edits.gated or (decision is not None and bool(decision.in_weights))

    def weights_for(self, decision: "ScopeDecision | None") -> "WeightOverlay | None":
        """Return the weights that answer a prompt of which this was decided."""
        return self.overlay if self.answers(decision) else self.base

    @property
    def version(self) -> str | None:
        """The version's name, None for the plain base."""
        return None if self.record is None else self.record.name

    def version_for(self, decision: "ScopeDecision | None") -> str | None:
        """Return the name of the version that answers a prompt of which this was decided, None for the plain base."""
        return self.version if self.answers(decision) else None


PLAIN = ActiveVersion()


class ActiveWeights:
    """The weights of one server: a version for its own namespace, the plain base for all others.

    A version has the edits of one namespace in its weights, so no prompt of another may ever reach them.

    Args:
        namespace: whose edits the version holds; None when everyone is answered by ``others``.
        own: what answers that namespace; replaced as a whole when another version is put in its place.
        others: what answers all other namespaces, and prompts with edits off; None refuses them, where the weights
            are somebody else's and cannot be changed.
    """

    def __init__(
        self, namespace: str | None = None, own: ActiveVersion = PLAIN, others: ActiveVersion | None = PLAIN
    ) -> None:
        self.namespace, self.own, self.others = namespace, own, others

    def of(self, namespace: str, *, edits: bool = True) -> ActiveVersion:
        """Return what answers a prompt of a namespace; with ``edits`` False the bare model, where there is one.

        Raises:
            ApiError: 403, this server cannot answer the namespace without another one's edits.
        """
        mine = namespace == self.namespace
        if mine and (edits or self.others is None):
            return self.own
        if self.others is None:
            raise ApiError(
                403,
                f"the engine behind this server has edits of namespace {self.namespace!r} in its weights, so it "
                f"answers no prompt of namespace {namespace!r}; ask a server whose engine runs the plain base",
                code="namespace_not_served",
            )
        return self.others
