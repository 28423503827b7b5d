"""The shape of an ELDER mixture, proposed from the model where it is not given."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from memedit.errors import InputError
from memedit.models.spec import ModelSpec

ALLOCATIONS = ("edit", "router")
SPANS = ("answer", "all")


@dataclass(frozen=True, slots=True)
class ElderConfig:
    """What an ELDER mixture is made of.

    Each of ``layers`` has ``experts`` LoRAs of rank ``rank`` on its MLP's map into the residual stream. There are two
    allocations of LoRAs to rows:

    * ``"router"``, as published: a layer's router reads the state of the query's last token, and the ``top_k`` experts
      it prefers are weighted by its softmax.
    * ``"edit"``: the experts are shared by all rows on which an edit fires, and the edit adds a LoRA of its own, of
      rank one, in each of ``code_layers``: the down-projection is shared, the up-projection ``[d_model]`` is the
      edit's.

    Both have routers and so allocation codes, of ``code_bits`` bits. Empty ``layers`` are proposed by
    :meth:`for_model`. ``span`` says where a mixture acts: from the query's last token on ("answer"), which leaves the
    reading of the prompt to the bare model, or on the whole row ("all").
    """

    layers: tuple[int, ...] = ()
    code_layers: tuple[int, ...] = ()
    experts: int = 4
    rank: int = 2
    top_k: int = 2
    allocation: str = "edit"
    span: str = "answer"

    def __post_init__(self) -> None:
        wrong = [name for name in ("experts", "rank", "top_k") if getattr(self, name) < 1]
        wrong += ["top_k"] if self.top_k > self.experts else []
        wrong += [n for n in ("layers", "code_layers") if list(getattr(self, n)) != sorted(set(getattr(self, n)))]
        wrong += ["code_layers"] if set(self.layers) & set(self.code_layers) else []
        wrong += ["code_layers"] if self.layers and (self.allocation == "edit") != bool(self.code_layers) else []
        wrong += ["allocation"] if self.allocation not in ALLOCATIONS else []
        wrong += ["span"] if self.span not in SPANS else []
        if wrong:
            raise InputError(
                f"ELDER config: {', '.join(dict.fromkeys(wrong))} out of range; experts, rank, top_k are at least 1, "
                "top_k at most experts, layers and code_layers rising and apart, code_layers given with allocation "
                f"'edit' and only then, allocation one of {ALLOCATIONS}, span one of {SPANS}; got {self}"
            )

    @property
    def components(self) -> int:
        """Rank-one components of the experts of a layer (K)."""
        return self.experts * self.rank

    @property
    def code_bits(self) -> int:
        """Length of an allocation code: a bit for each expert of each layer."""
        return self.experts * len(self.layers)

    @property
    def first(self) -> int:
        """The lowest edited layer; routers read what it is fed."""
        return min(self.layers + self.code_layers)

    def for_model(self, spec: ModelSpec) -> "ElderConfig":
        """Return the config with layers proposed for a model where it has none.

        By edit: code layers at half and at 70% of the depth, and experts in five layers spread over the upper half;
        what lies below is frozen and run once in training. By router: six layers in a row from half the depth on.

        Raises:
            InputError: layers are given that the model does not have, or it is too shallow to be given any.
        """
        if self.layers:
            if max(self.layers + self.code_layers) >= spec.n_layers:
                raise InputError(f"ELDER layers {self}: the model has layers 0 to {spec.n_layers - 1}")
            return self
        middle = spec.n_layers // 2
        above = spec.n_layers - 1 - middle
        if above < 1:
            raise InputError(f"a model of {spec.n_layers} layers is too shallow for ELDER; give layers yourself")
        if self.allocation == "router":
            return replace(self, layers=tuple(range(middle, min(middle + 6, spec.n_layers))))
        codes = sorted({middle, middle + round(0.4 * above)} - {spec.n_layers - 1})
        free = [layer for layer in range(middle + 1, spec.n_layers) if layer not in codes]
        picked = sorted({free[round(i * (len(free) - 1) / 5)] for i in range(min(5, len(free)))})
        return replace(self, layers=tuple(picked), code_layers=tuple(codes))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

    @classmethod
    def parse(cls, values: Any) -> "ElderConfig":
        """Read what :meth:`to_json` wrote.

        Raises:
            InputError: it is not such a record.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) - known:
            raise InputError(f"not an ELDER config: {values!r}")
        layers = {name: tuple(values[name]) for name in ("layers", "code_layers") if name in values}
        try:
            return cls(**{**values, **layers})
        except TypeError as error:
            raise InputError(f"not an ELDER config: {error}") from error


PUBLISHED = ElderConfig(experts=4, rank=8, top_k=2, allocation="router", span="all")
"""The shape of the paper (arXiv 2408.11869): 6 layers, 4 LoRAs of rank 8 in each, the 2 best mixed."""
