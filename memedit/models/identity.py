"""Which base model an artefact was made for, as a small record that goes into its JSON."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from memedit.errors import FingerprintMismatchError, InputError
from memedit.models.fingerprint import config_digest, plain_values, tokenizer_digest

_TENSORS, _VALUES = 8, 8
_TOLERANCE = 2.0**-7  # twice the rounding of bfloat16: the same checkpoint in another dtype is the same base


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """Config and tokenizer digests of a causal LM and a few of its weights, by tensor name.

    Unlike :func:`~memedit.models.fingerprint.model_fingerprint` it also recognises the same checkpoint in another
    dtype, and needs no pass over all weights.
    """

    name: str
    config: str
    tokenizer: str
    weights: dict[str, list[float]]

    @classmethod
    def of(cls, model: Any, tokenizer: Any, name: str) -> "BaseRecord":
        """Describe ``model`` and ``tokenizer``."""
        return cls(name, config_digest(model.config), tokenizer_digest(tokenizer), _sample(model))

    @classmethod
    def parse(cls, fields: Any) -> "BaseRecord":
        """Read what :meth:`to_json` wrote.

        Raises:
            InputError: it is not such a record.
        """
        try:
            return cls(**fields)
        except TypeError as error:
            raise InputError(f"the record of the base model is damaged: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return asdict(self)

    def check(self, model: Any, tokenizer: Any, what: str) -> None:
        """Refuse another base than this one; ``what`` names the artefact in the message.

        Raises:
            FingerprintMismatchError: config, tokenizer or weights differ; says which.
        """
        self.check_same(BaseRecord.of(model, tokenizer, self.name), what)

    def check_same(self, seen: "BaseRecord", what: str) -> None:
        """Refuse a base described by ``seen`` that is another than this one; as :meth:`check`.

        Raises:
            FingerprintMismatchError: config, tokenizer or weights differ; says which.
        """
        differing = [part for part in ("config", "tokenizer") if getattr(seen, part) != getattr(self, part)]
        if not differing and not _close(self.weights, seen.weights):
            differing = ["weights"]
        if differing:
            raise FingerprintMismatchError(
                f"{what} was made for {self.name!r} and cannot be used with this model: its "
                f"{' and '.join(differing)} differ{'s' if differing == ['config'] else ''}. Load that base model, or "
                "make it anew for this one"
            )


def _sample(model: Any) -> dict[str, list[float]]:
    """Return evenly spaced values of evenly spaced weight matrices, in float32."""
    matrices = [(n, p) for n, p in sorted(model.named_parameters()) if p.dim() == 2 and p.device.type != "meta"]
    step = max(1, len(matrices) // _TENSORS)
    sample = {}
    for name, tensor in matrices[::step][:_TENSORS]:
        flat = plain_values(tensor).reshape(-1)
        places = torch.linspace(0, flat.numel() - 1, _VALUES, dtype=torch.float64).long()
        sample[name] = [float(value) for value in flat[places.to(flat.device)].float().cpu()]
    return sample


def _close(recorded: dict[str, list[float]], seen: dict[str, list[float]]) -> bool:
    if recorded.keys() != seen.keys():
        return False
    return all(
        torch.allclose(torch.tensor(seen[name]), torch.tensor(values), rtol=_TOLERANCE, atol=1e-6)
        for name, values in recorded.items()
    )
