"""Monitors of a candidate: what a job warns of, and never fails by."""

from collections.abc import Sequence

from memedit.consolidation.apply import applied
from memedit.consolidation.verdicts import Gate, Verdict
from memedit.evaluation.rows.base import States
from memedit.evaluation.rows.shattering import PROMPT, WARNS_AT, entities, measure
from memedit.models import LoadedModel
from memedit.types import Edit, WeightDelta
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.states import last_states, state_layers


def shattering_gate(
    loaded: LoadedModel, base: BareAnswerer, delta: WeightDelta, edits: Sequence[Edit], layers: Sequence[int] | None
) -> Gate:
    """Compare what the candidate does to the states of entities with random changes of the same size.

    ``layers`` are the edited ones; None takes those that consolidation takes by default.
    """
    texts = [PROMPT.format(name) for name in entities([edit.subject for edit in edits if edit.subject])]
    behind = state_layers(loaded, layers)

    def states(prompts: Sequence[str], change: WeightDelta | None) -> States:
        if change is None:
            return last_states(loaded, base, prompts, behind)
        with applied(loaded, change):
            return last_states(loaded, base, prompts, behind)

    found = measure(states, states(texts, None), states(texts, delta), behind, delta=delta, texts=texts)
    shown = ", ".join(
        f"{own.value:.3f} behind layer {layer} (random {other:.3f})"
        for layer, own, other in zip(found.layers, found.own, found.random, strict=True)
    )
    verdict, words = (Verdict.WARN, "beyond") if found.warns else (Verdict.PASS, "within")
    own, other = found.own[found.worst].value, found.random[found.worst]
    reason = f"R {shown}: {words} {WARNS_AT:g} times that of random changes of the same size"
    return Gate("shattering", verdict, reason, len(texts), own, other, unit="R", test="random changes")
