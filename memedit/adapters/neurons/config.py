"""How many neurons an edit gets, in which layers, and how their values are found."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from memedit.errors import InputError
from memedit.models.spec import ModelSpec

LOCATORS = ("activation", "random")
_LAYERS = 6


@dataclass(frozen=True, slots=True)
class NeuronConfig:
    """Settings of the neuron memory.

    Args:
        layers: layers whose MLP neurons are used, ascending; None: six in a row from a little behind the middle.
        neurons: neurons of each layer that an edit gets.
        locate: ``"activation"``: those most active, for this model, at the end of all the edit's own wordings;
            ``"random"``: as many drawn by the edit's content, to compare with.
        steps: most steps of Adam.
        learning_rate: of Adam, in units of the layer's root mean square activation.
        decay: weight of the squared values, in the same units, in the loss.
        stop_loss: an edit whose mean negative log-likelihood (nats a token) is below this is finished.
        batch: edits whose values are found at once.
        dtype: "auto" finds them in bfloat16 where the processor computes in it, "model" in the model's own dtype.

    Raises:
        InputError: a setting is out of its range.
    """

    layers: tuple[int, ...] | None = None
    neurons: int = 64
    locate: str = "activation"
    steps: int = 30
    learning_rate: float = 1.0
    decay: float = 0.0
    stop_loss: float = 0.05
    batch: int = 16
    dtype: str = "auto"

    def __post_init__(self) -> None:
        checks = {
            "layers": self.layers is None or (len(self.layers) > 0 and list(self.layers) == sorted(set(self.layers))),
            "neurons": self.neurons >= 1,
            "locate": self.locate in LOCATORS,
            "steps": self.steps >= 1,
            "learning_rate": self.learning_rate > 0,
            "decay": self.decay >= 0,
            "stop_loss": self.stop_loss >= 0,
            "batch": self.batch >= 1,
            "dtype": self.dtype in ("auto", "model"),
        }
        wrong = [f"{name}={getattr(self, name)!r}" for name, fine in checks.items() if not fine]
        if wrong:
            raise InputError(f"neuron memory: out of range: {', '.join(wrong)}")

    def for_model(self, spec: ModelSpec) -> "NeuronConfig":
        """Return the settings with layers and a number of neurons that this model has."""
        layers = self.layers
        if layers is None:
            first = min(round(spec.n_layers * 8 / 15), max(0, spec.n_layers - _LAYERS))
            layers = tuple(range(first, min(first + _LAYERS, spec.n_layers)))
        width = spec.intermediate_size or self.neurons
        return replace(self, layers=layers, neurons=min(self.neurons, width))

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what the values depend on."""
        fields = asdict(self)
        del fields["batch"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
