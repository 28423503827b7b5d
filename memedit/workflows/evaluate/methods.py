"""The methods an evaluation can compare, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memedit.adapters import ADAPTERS
from memedit.encoders.base import Encoder
from memedit.errors import InputError, UnknownNameError
from memedit.evaluation.outcome import BASELINES
from memedit.registry import unknown_name_message
from memedit.scope import Scope, load_scope
from memedit.types import Candidate, Edit, Encoding, Hit, ScopeDecision

WEIGHTS = ("rome", "memit", "alphaedit", "rect", "prune", "ultraedit", "kne", "kne_random")
ELDERS = ("elder", "elder:both", "elder:published", "elder:published_scope")
"""Forms of ELDER; see :data:`memedit.workflows.evaluate.elder.VARIANTS`."""
PLAIN = "in_context:plain"
"""In-context editing as published: edits as text, and decoding left to the model."""
GRACE_ALONE = "grace:published"
"""GRACE under its own router: the nearest key of the whole codebook, within its radius."""
_SIDE = ("wise", "wise:published", "memoir", "memoir:published")
"""Memories beside one layer; see :data:`memedit.workflows.evaluate.side_memory.SIDE_MEMORIES`."""
_OTHERS = (*BASELINES, PLAIN, *ELDERS, GRACE_ALONE, *_SIDE, *(f"weights:{w}" for w in WEIGHTS), "hybrid")
"""Methods that are no adapter's name."""
HYBRID_SOLVER = "alphaedit"
"""Solver of ``hybrid``: the one a consolidation job takes by default."""
_SCOPES = {"recipe": "sentinel", **dict.fromkeys(("elder:published", GRACE_ALONE, *_SIDE[1::2]), "nearest")}
"""Scope of a published method where it brings its own."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method as it is run: ``adapter`` and ``scope`` by name; both are None where no memory is asked.

    ``weights`` is the solver that writes the edits into the weights, None for methods that leave them alone.
    """

    name: str
    adapter: str | None
    scope: str | None
    weights: str | None = None

    @property
    def is_base(self) -> bool:
        """Whether it is the untouched base."""
        return self.adapter is None and self.weights is None

    @property
    def is_baseline(self) -> bool:
        """Whether it is in the table only to measure others by."""
        return self.name.partition(":")[0] in BASELINES

    @property
    def shares(self) -> bool:
        """Whether its rows may be taken from another that fed the model the same tokens and decoded in the same way."""
        return self.is_baseline and self.adapter == PLAIN

    @property
    def thresholded(self) -> bool:
        """Whether its edits fire by a scope's threshold."""
        return self.scope not in (None, "oracle", "nearest")


def known_methods() -> list[str]:
    """Return the names a method may have; ``rag`` and ``oracle`` also take an adapter, as in ``oracle:reader``."""
    return list(dict.fromkeys([*_OTHERS, *ADAPTERS]))


def parse_methods(names: Sequence[str], *, scope: str = "default", baselines: bool = True) -> list[Method]:
    """Return the methods of these names, each once, with the baselines in front (or the base alone).

    ``NAME@SCOPE`` gives a method another scope than ``scope``, e.g. ``reader@similarity``.

    Raises:
        UnknownNameError: no such method; lists near matches.
        InputError: no method is named.
    """
    if not [name for name in names if name.strip()]:
        raise InputError(f"no method is named; known: {', '.join(known_methods())}")
    front = BASELINES if baselines else ("base",)
    parsed = [_parse(name.strip(), scope) for name in (*front, *names) if name.strip()]
    return list({method.name: method for method in parsed}.values())


def _parse(name: str, scope: str) -> Method:
    whole, _, own_scope = name.partition("@")
    head, _, tail = whole.partition(":")
    if whole not in _OTHERS and whole not in ADAPTERS and not (head in ("rag", "oracle") and tail):
        raise UnknownNameError(unknown_name_message("method", name, known_methods()))
    if head == "base":
        return Method(name, None, None)
    if head == "weights":
        return Method(name, None, None, weights=tail)
    if head == "hybrid":
        return Method(name, "default", own_scope or scope, weights=HYBRID_SOLVER)
    if head in ("rag", "oracle"):
        adapter = tail or PLAIN
        if adapter not in (*ADAPTERS, PLAIN):
            raise UnknownNameError(unknown_name_message("adapter", adapter, list(ADAPTERS)))
        return Method(name, adapter, "nearest" if head == "rag" else "oracle")
    if whole in (PLAIN, GRACE_ALONE, *ELDERS, *_SIDE):
        return Method(name, whole, own_scope or _SCOPES.get(whole, scope))
    return Method(name, head, own_scope or _SCOPES.get(head, scope))


class OracleScope:
    """Fires the edits that are right for a query, whatever the memory found: the best any scope could do.

    Args:
        right: the right edits of each prompt, by its text; prompts that are not there have none.
    """

    name = "oracle"
    threshold = 0.5

    def __init__(self, right: Mapping[str, Sequence[Edit]]) -> None:
        self._right = right
        self._long = [prompt for prompt in right if len(prompt) > _LONG]

    @property
    def fingerprint(self) -> str:
        """The scope's own name: it depends on nothing but the data."""
        return self.name

    def decide(
        self, queries: Sequence[Encoding], candidates: Sequence[Sequence[Candidate]], *, threshold: float | None = None
    ) -> list[ScopeDecision]:
        """Return the right edits of each query; the candidates are not looked at."""
        return [self._decide(query.text) for query in queries]

    def _decide(self, text: str) -> ScopeDecision:
        edits = self._right.get(text)
        if edits is None:  # a long prompt is looked up in parts
            whole = next((p for p in self._long if text in p), None) if len(text) > _PART else None
            edits = self._right[whole] if whole is not None else ()
        hits = tuple(Hit(edit, 1.0, 1.0) for edit in edits)
        return ScopeDecision(text, self.name, self.threshold, hits, hits)


_LONG = 300
_PART = 60


def nearest_scope(encoder: Encoder) -> Scope:
    """Return the scope of plain retrieval: the most similar edit fires, however far it is."""
    return load_scope("similarity", encoder, threshold=0.0)
