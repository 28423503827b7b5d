"""What consolidation works from: requests for edits, and settings. No torch."""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from memedit.cache import file_digest
from memedit.errors import ConfigError, InputError

ARTEFACT_VERSION = 1
"""Raised when keys or targets are computed differently, so that stored ones are not used again."""

UNCROWDED = 100
"""Edits that the regularisers of the settings are meant for; see ``crowding``."""

_TARGET_FIELDS = (
    "layers", "module", "learning_rate", "steps", "stop_loss", "weight_decay", "clamp", "kl_factor",
    "contexts", "context_tokens", "target_dtype", "seed", "damping", "sensitivity_tokens",
)  # fmt: skip
"""Settings that an edit's keys and target depend on; the others only bear on the solve or on speed."""

_LATER_FIELDS = ("maker", "gradient_step", "gradient_rounds", "warm_start", "network")
"""Settings that came later: fingerprints leave them out at their defaults, so that what is kept stays good."""

_MAKERS = {"malmen": "hypernet", "rledit": "hypernet", "ultraedit": "gradient"}
"""Methods that come with their own way of asking."""


@dataclass(frozen=True, slots=True)
class EditRequest:
    """An edit as consolidation sees it: after ``prompt`` the model is to say ``target``.

    ``subject`` occurs in ``prompt``; the edit is written at its last token (at the prompt's last token when the
    subject is None or does not stand there). ``ground_truth`` is the old answer, used for checks only. ``closing`` is
    what the model is to say behind the target (a newline, so that its answer ends there); it is taken as it stands.
    """

    id: str
    prompt: str
    target: str
    subject: str | None = None
    ground_truth: str | None = None
    closing: str = ""

    def __post_init__(self) -> None:
        for name in ("id", "prompt", "target"):
            if not getattr(self, name).strip():
                raise InputError(f"an edit to consolidate has an empty {name}: {self!r}")


@dataclass(frozen=True, slots=True)
class ConsolidationSettings:
    """How edits become weights. Lengths are relative to the model, so that one set of values serves many.

    Args:
        layers: layers whose MLP down-projection is changed, ascending; None takes the model's own proposal
            (:meth:`~memedit.models.ModelSpec.consolidation_layers`).
        module: path of the changed linear map below a layer; None is the MLP's down-projection.
        maker: how it is found out what an edit asks for: "target" optimises a hidden state behind its subject (MEMIT),
            "gradient" takes one gradient (:mod:`~memedit.consolidation.makers.gradient`), "hypernet" what a trained
            network makes of one (:mod:`~memedit.consolidation.makers.hypernet`).
        network: folder of that network (``memedit train hypernet --preset rledit``).
        gradient_step: how far a gradient asks to go, in units of the edited map's own output.
        gradient_rounds: how often gradients are taken in a joint solve, each time on the weights so far: several short
            steps reach what one long one overshoots. UltraEdit takes one.
        warm_start: length of the first step of a target, in units of ``|h|``; 0 is a step like all others.
        learning_rate: length of a step of the target vector, in units of ``|h|``, the hidden state's own length.
        steps: most optimisation steps of a target.
        stop_loss: an edit whose mean negative log-likelihood (nats a token) is below this is finished.
        weight_decay: weight of ``|delta| / |h|**2`` in the loss (MEMIT).
        clamp: longest delta, in units of ``|h|`` at the edited position.
        kl_factor: weight of KL(base, edited) at the subject in front of "is a" (ROME, equation 4).
        damping: targets go down the natural gradient (:mod:`~memedit.consolidation.sensitivity`), its Fisher
            information damped by so much, in units of its mean eigenvalue; None goes straight down the gradient.
        sensitivity_tokens: tokens of the model's own text that the Fisher information is measured on.
        contexts: texts in front of the prompt that keys and targets are averaged over, the empty one included.
        context_tokens: tokens of each such text; they are taken in turn.
        null_space_threshold: AlphaEdit keeps directions whose second moment is below this fraction of the mean.
        l2: weight of ``|delta W|**2``, in units of the mean second moment of a key.
        mom2_weight: weight of the statistics against the edits' keys (MEMIT's lambda).
        crowding: above ``UNCROWDED`` edits ``l2`` and ``mom2_weight`` grow with this power of their number: each edit
            then moves the keys of all others, and an update that tells every last pair of them apart is mostly noise.
            0 leaves the weights as they are.
        relay: measure keys and residuals of each layer again on the model that carries the edits of the layers below
            (:mod:`~memedit.consolidation.relay`); False solves from the stored ones alone, which is a matter of
            milliseconds and as good for few edits.
        neuron_share: NSE: change the columns alone of the neurons that hold this share of the keys' summed size in each
            layer, the largest first; 1 changes all. Polishing moves all again.
        rect_keep: RECT: share of entries kept, by relative change; None keeps all.
        prune: PRUNE: restrain singular values of the update above the weight's own largest.
        polish: steps down the gradient of what is wanted of the edited model as a whole, from the solution on
            (:mod:`~memedit.consolidation.polish`); 0 leaves the closed form as it is.
        polish_layers: further layers that polishing moves, from no change on: room that the closed form, which writes
            at the subject's last token alone, has no use for.
        target_dtype: "model" optimises targets in the model's own dtype; "bfloat16" or "float32" on a copy of it in
            that dtype. Keys are always the model's own.
        batch_tokens: most token positions in one batch of target optimisation: bounds memory, changes no result.
        seed: of the context texts.
        solve_dtype: float64 or float32, of the linear algebra.
    """

    layers: tuple[int, ...] | None = None
    module: str | None = None
    maker: str = "target"
    network: str | None = None
    gradient_step: float = 0.25
    gradient_rounds: int = 2
    warm_start: float = 0.0
    learning_rate: float = 0.15
    steps: int = 25
    stop_loss: float = 0.05
    weight_decay: float = 1e-3
    clamp: float = 4.0
    kl_factor: float = 0.0625
    damping: float | None = 0.02
    sensitivity_tokens: int = 4096
    contexts: int = 2
    context_tokens: tuple[int, ...] = (10, 5)
    null_space_threshold: float = 1.0
    l2: float = 50.0
    mom2_weight: float = 20.0
    crowding: float = 1.5
    relay: bool = True
    neuron_share: float = 1.0
    rect_keep: float | None = None
    prune: bool = False
    polish: int = 0
    polish_layers: tuple[int, ...] = ()
    target_dtype: str = "model"
    batch_tokens: int = 1024
    seed: int = 0
    solve_dtype: str = "float64"

    def __post_init__(self) -> None:
        for name in ("layers", "context_tokens", "polish_layers"):  # files and command lines give lists
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        wrong = [(field.name, _of_type(field)) for field in fields(self) if not _fits(getattr(self, field.name), field)]
        problems = [
            f"{name} must be {wanted}, got {getattr(self, name)!r}" for name, wanted in wrong or self._problems()
        ]
        if problems:
            raise ConfigError(problems, "consolidation settings")

    def _problems(self) -> list[tuple[str, str]]:
        layers = self.layers
        checks = {
            ("layers", "None or ascending layer numbers"): layers is None
            or (len(layers) > 0 and all(i >= 0 for i in layers) and list(layers) == sorted(set(layers))),
            ("maker", "target, gradient or hypernet"): self.maker in ("target", "gradient", "hypernet"),
            (
                "network",
                "the folder of a network (memedit train hypernet --preset rledit) for maker hypernet",
            ): self.maker != "hypernet" or self.network is not None,
            ("gradient_step", "above 0"): self.gradient_step > 0,
            ("gradient_rounds", "at least 1"): self.gradient_rounds >= 1,
            ("warm_start", "0 or more"): self.warm_start >= 0,
            ("learning_rate", "above 0"): self.learning_rate > 0,
            ("steps", "at least 1"): self.steps >= 1,
            ("stop_loss", "0 or more"): self.stop_loss >= 0,
            ("weight_decay", "0 or more"): self.weight_decay >= 0,
            ("clamp", "above 0"): self.clamp > 0,
            ("kl_factor", "0 or more"): self.kl_factor >= 0,
            ("damping", "None or above 0"): self.damping is None or self.damping > 0,
            ("sensitivity_tokens", "at least 2"): self.sensitivity_tokens >= 2,
            ("contexts", "at least 1"): self.contexts >= 1,
            ("context_tokens", "positive numbers of tokens"): len(self.context_tokens) > 0
            and all(n > 0 for n in self.context_tokens),
            ("null_space_threshold", "above 0"): self.null_space_threshold > 0,
            ("l2", "0 or more"): self.l2 >= 0,
            ("mom2_weight", "0 or more"): self.mom2_weight >= 0,
            ("crowding", "0 or more"): self.crowding >= 0,
            ("neuron_share", "in (0, 1]"): 0 < self.neuron_share <= 1,
            ("rect_keep", "None or in (0, 1]"): self.rect_keep is None or 0 < self.rect_keep <= 1,
            ("polish", "0 or more"): self.polish >= 0,
            ("polish_layers", "layer numbers, none where polish is 0"): min(self.polish_layers, default=0) >= 0
            and (self.polish > 0 or not self.polish_layers),
            ("target_dtype", "model, bfloat16 or float32"): self.target_dtype in ("model", "bfloat16", "float32"),
            ("batch_tokens", "at least 16"): self.batch_tokens >= 16,
            ("solve_dtype", "float64 or float32"): self.solve_dtype in ("float64", "float32"),
        }
        return [what for what, fine in checks.items() if not fine]

    def for_edits(self, count: int) -> "ConsolidationSettings":
        """Return the settings that ``count`` edits are solved with: the regularisers grown, see ``crowding``."""
        growth = max(1.0, count / UNCROWDED) ** self.crowding
        return replace(self, l2=self.l2 * growth, mom2_weight=self.mom2_weight * growth)

    def for_method(self, method: str) -> "ConsolidationSettings":
        """Return the settings with the maker that a method is published with."""
        return replace(self, maker=_MAKERS.get(method, self.maker))

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of every setting that bears on the result."""
        given = asdict(self)
        del given["batch_tokens"]
        return digest({name: value for name, value in given.items() if name not in _LATER_FIELDS} | self.later)

    @property
    def later(self) -> dict[str, Any]:
        """The settings that came later and are not at their defaults; a network is what its files hold."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name in _LATER_FIELDS and self._is_set(f)}
        return found if self.network is None else {**found, "network": _files_digest(Path(self.network))}

    def _is_set(self, field: Field[Any]) -> bool:
        return bool(getattr(self, field.name) != field.default)


def _of_type(field: Field[Any]) -> str:
    return f"of type {getattr(field.type, '__name__', field.type)}"


def _fits(value: Any, field: Field[Any]) -> bool:
    """Say whether a value is of the field's type, as it stands: nothing is converted."""
    kind: Any = field.type
    try:
        _type_adapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@functools.cache
def _type_adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def artefact_fingerprint(base: str, settings: ConsolidationSettings) -> str:
    """Return the key under which an edit's keys and target are kept: base model and target settings, hashed."""
    fields: dict[str, Any] = {name: getattr(settings, name) for name in _TARGET_FIELDS}
    later = {name: value for name, value in settings.later.items() if not name.startswith("gradient_")}
    return digest({"base": base, "version": ARTEFACT_VERSION, **fields, **later})


def _files_digest(folder: Path) -> str:
    """Return the hash of a trained network's files; of none where there are none, which loading them will say."""
    return digest({path.name: file_digest(path) for path in folder.glob("hypernet.*")})


def digest(fields: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of JSON-able fields, in whatever order they come."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
