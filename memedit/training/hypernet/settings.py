"""How a hypernetwork is trained, and the presets named after the published methods."""

from dataclasses import dataclass

from memedit.errors import InputError, UnknownNameError
from memedit.models.hypernet.config import HypernetConfig
from memedit.registry import unknown_name_message


@dataclass(frozen=True, slots=True)
class HypernetSettings:
    """What a hypernetwork depends on besides its shape, the base model and the data.

    A step takes ``batch`` edits apart from each other, asks each ``asks`` questions (its prompt, or with probability
    ``paraphrased`` another of its questions), and one question off topic for a share ``locality`` of them, of which
    the last ``locality_positions`` tokens are compared. Losses are weighted by ``edit_weight`` and
    ``locality_weight``; ``chat`` of the questions are put as a chat's user turn. ``world`` made-up facts with what
    follows from them are learned too, but for questions with the word ``unseen``. ``step_size`` is that of an
    untrained network, ``step_rate`` what its logarithm is learned at; a ``learning_rate`` of 0 leaves the network as it
    is made and learns these alone. Networks for a solve take sets of ``batch / 3`` to ``batch`` edits at a time, solve
    for each set at once and ask ``asked`` of its edits; their untrained ``step_size`` is in units of the maps' own
    outputs, their untrained ``ridge`` in units of a key's mean square, and ``change_weight`` is that of the squared
    change of the weights. Rows over ``row_tokens`` and targets over
    ``answer_tokens`` are left out. ``dtype`` is that of the frozen model; what is trained is float32.
    """

    steps: int = 200
    batch: int = 16
    asked: int = 16
    asks: int = 1
    world: int = 0
    unseen: str = ""
    learning_rate: float = 2e-3
    step_rate: float = 3e-2
    step_size: float = 1e-3
    edit_weight: float = 1.0
    locality_weight: float = 0.1
    locality: float = 0.5
    locality_positions: int = 4
    paraphrased: float = 0.7
    chat: float = 0.1
    change_weight: float = 0.0
    ridge: float = 100.0
    clip: float = 1.0
    ramp: int = 20
    row_tokens: int = 48
    answer_tokens: int = 8
    micro_tokens: int = 1024
    seed: int = 0
    dtype: str = "auto"

    def __post_init__(self) -> None:
        counts = (
            "steps",
            "batch",
            "asked",
            "asks",
            "locality_positions",
            "row_tokens",
            "answer_tokens",
            "micro_tokens",
        )
        wrong = [name for name in counts if getattr(self, name) < 1]
        loose = ("ramp", "world", "edit_weight", "locality_weight", "change_weight", "learning_rate")
        wrong += [name for name in loose if getattr(self, name) < 0]
        wrong += [name for name in ("locality", "paraphrased", "chat") if not 0 <= getattr(self, name) <= 1]
        wrong += [n for n in ("step_rate", "step_size", "ridge", "clip") if getattr(self, n) <= 0]
        if wrong:
            raise InputError(f"hypernetwork settings out of range: {', '.join(wrong)}; got {self}")


@dataclass(frozen=True, slots=True)
class Preset:
    """A published method: the network's shape and how it is trained."""

    config: HypernetConfig
    settings: HypernetSettings


PRESETS = {
    "mend": Preset(HypernetConfig(), HypernetSettings()),
    "propmend": Preset(
        HypernetConfig(inner="text"),
        HypernetSettings(
            steps=120, batch=8, asks=4, world=1000, unseen="currency", paraphrased=0.8, locality=0.25, chat=0.0
        ),
    ),
    "knowledge_editor": Preset(HypernetConfig(network="text", rank=192), HypernetSettings()),
    "malmen": Preset(
        HypernetConfig(aggregate="ridge"),
        HypernetSettings(steps=100, batch=300, step_size=0.25, locality_weight=1.0, locality=1.0, ramp=10),
    ),
    "rledit": Preset(
        HypernetConfig(aggregate="ridge", rank=128, blocks=4),
        HypernetSettings(
            steps=100, batch=300, step_size=0.25, locality_weight=0.6, locality=1.0, change_weight=1e-4, ramp=10
        ),
    ),
}
"""``mend`` (arXiv 2110.11309) edits the last three layers by the gradient of the target behind the prompt, and is
trained on other wordings of single edits, with a divergence on unrelated text. ``propmend`` (arXiv 2506.08920) edits
layers above the middle by the gradient of the whole text, and is trained on what follows from an edit.
``knowledge_editor`` (after arXiv 2104.08164) is trained as ``mend`` is, in place of a Lagrange multiplier on the
divergence. ``malmen`` (arXiv 2311.04661) and ``rledit`` (after arXiv 2502.05759) hand changes of outputs to one ridge
solve and are trained through it, on sets of edits. RLEdit's trajectory of batches on drifting weights is a set here,
since a solve begins at the frozen base whatever came before; its other features are there: four blocks, the weights of
its losses, and the weight of the change, which its released code computes without a graph."""


def preset_of(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        UnknownNameError: there is none; lists near matches.
    """
    if name not in PRESETS:
        raise UnknownNameError(unknown_name_message("preset", name, list(PRESETS)))
    return PRESETS[name]
