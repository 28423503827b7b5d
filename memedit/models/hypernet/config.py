"""The shape of a hypernetwork, proposed from the model where it is not given."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from memedit.errors import InputError
from memedit.models.spec import LinearSpec, ModelSpec

INNER = ("answer", "text")
AGGREGATE = ("factors", "ridge")
NETWORKS = ("pairs", "text")
_LATER = ("aggregate", "network")
"""Fields that records leave out at their defaults, so that those written before them say the same."""
COUNT = 3
_MIDDLE = (0.62, 0.75)


@dataclass(frozen=True, slots=True)
class HypernetConfig:
    """What a hypernetwork is made of and what it edits.

    Args:
        layers: whose map into the residual stream is edited; empty: three, by :meth:`for_model`.
        inner: whose gradient is taken: of the ``"answer"`` behind the prompt (MEND), or of the whole ``"text"``,
            prompt, answer and end token, as language models are trained (PropMEND).
        aggregate: what becomes of the network's output: ``"factors"`` of one edit's own change (MEND), or changes of
            the maps' outputs that one ``"ridge"`` solve writes for all edits together (MALMEN, RLEdit).
        network: what decides on the change: each ``"pairs"`` of input and gradient for itself (MEND), or the edit's
            ``"text"`` (KnowledgeEditor); that one has no blocks.
        rank: of each block of the network.
        blocks: residual blocks; the last is linear.
        factors: rank at most of what is kept for one edit in each layer.
    """

    layers: tuple[int, ...] = ()
    inner: str = "answer"
    rank: int = 256
    blocks: int = 2
    factors: int = 4
    aggregate: str = "factors"
    network: str = "pairs"

    def __post_init__(self) -> None:
        wrong = [name for name in ("rank", "blocks", "factors") if getattr(self, name) < 1]
        wrong += ["inner"] if self.inner not in INNER else []
        wrong += ["aggregate"] if self.aggregate not in AGGREGATE else []
        fits = self.network in NETWORKS and (self.network == "pairs" or self.aggregate == "factors")
        wrong += [] if fits else ["network"]
        wrong += ["layers"] if list(self.layers) != sorted(set(self.layers)) or min(self.layers, default=0) < 0 else []
        if wrong:
            raise InputError(
                f"hypernetwork config: {', '.join(wrong)} out of range; rank, blocks and factors are at least 1, "
                f"layers rising, inner one of {INNER}, aggregate one of {AGGREGATE}, "
                f"network one of {NETWORKS} (text: with factors); got {self}"
            )

    def for_model(self, spec: ModelSpec) -> "HypernetConfig":
        """Return the config with layers: the last three for answers, three at 62 to 75% of the depth for texts.

        A solve writes in front of the last layer: the three that gradients in a consolidation write to as well.

        Raises:
            InputError: layers are given that the model does not have.
        """
        if not self.layers:
            last = spec.n_layers - (2 if self.aggregate == "ridge" and spec.n_layers > COUNT else 1)
            low, high = (round(part * last) for part in _MIDDLE) if self.inner == "text" else (last - COUNT + 1, last)
            steps = {round(low + i * (high - low) / (COUNT - 1)) for i in range(COUNT)}
            return replace(self, layers=tuple(sorted(step for step in steps if step >= 0)))
        if self.layers[-1] >= spec.n_layers:
            raise InputError(f"layers {self.layers}: the model has layers 0 to {spec.n_layers - 1}")
        return self

    def modules(self, spec: ModelSpec) -> tuple[str, ...]:
        """Return the paths of the edited maps, in rising order.

        Raises:
            InputError: the model's layers have no single map out of their MLP.
        """
        path = edited_map(spec).path
        return tuple(f"{spec.layers}.{layer}.{path}" for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        defaults = {field.name: field.default for field in fields(self)}
        return {k: v for k, v in asdict(self).items() if k not in _LATER or v != defaults[k]}

    @classmethod
    def parse(cls, values: Any) -> "HypernetConfig":
        """Read what :meth:`to_json` wrote.

        Raises:
            InputError: it is not such a record.
        """
        if not isinstance(values, dict) or set(values) - {field.name for field in fields(cls)}:
            raise InputError(f"not a hypernetwork's config: {values!r}")
        return cls(**{**values, "layers": tuple(values.get("layers", ()))})


def edited_map(spec: ModelSpec) -> LinearSpec:
    """Return the map out of a layer's MLP into the residual stream.

    Raises:
        InputError: there is no single one, as in mixtures of experts.
    """
    if spec.mlp_down is None:
        raise InputError(f"{spec.family} has no single map out of a layer's MLP; hypernetworks cannot edit it")
    return spec.mlp_down
