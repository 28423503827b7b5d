"""RECIPE's knowledge and query representations (arXiv 2405.03279, section 3.2) over a Hugging Face text encoder.

Used by the RECIPE adapter (knowledge vector to prompt) and by the knowledge sentinel scope (which edit, if any, bears
on a query), so it lives below both.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memedit.encoders.finding import find_encoder
from memedit.encoders.fingerprint import check_weights
from memedit.errors import InputError, UnsupportedModelError

_FEATURES = 4  # first token, mean, maximum, minimum
_FAR = 1e4


@dataclass(frozen=True, slots=True)
class KnowledgeConfig:
    """Shape of a :class:`KnowledgeEncoder`.

    Args:
        width: size r of knowledge and query vectors (the paper: 4096 over RoBERTa; see docs/recipe.md).
        prototypes: number c of learned tokens that stand for the knowledge sentinel.
        lora_rank: rank of the LoRA through which the text encoder is tuned; 0 keeps it frozen.
        lora_alpha: scaling numerator of the LoRA.
        max_tokens: token limit of a text.
    """

    width: int = 768
    prototypes: int = 10
    lora_rank: int = 32
    lora_alpha: int = 64
    max_tokens: int = 128

    def __post_init__(self) -> None:
        if min(self.width, self.prototypes, self.lora_alpha) < 1 or self.lora_rank < 0 or self.max_tokens < 4:
            raise InputError(f"not a knowledge encoder's shape: {asdict(self)}; sizes must be positive")


class ResidualHead(nn.Module):
    """``y = W1 x + b1``, then ``y + relu(W2 y + b2)``: the paper's MLP with a residual connection."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, width)
        self.refine = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """``[n, inputs]`` to ``[n, width]``."""
        projected: Tensor = self.project(features)
        return projected + torch.relu(self.refine(projected))


class KnowledgeEncoder(nn.Module):
    """Texts to knowledge vectors r_k, queries to r_q, and the knowledge sentinel, all ``[n, width]``.

    Features of a text are the first token's hidden state and the mean, maximum and minimum over its tokens; two
    separate heads turn them into r_k and r_q. The sentinel is ``prototypes`` learned input embeddings through the same
    encoder and the knowledge head. Relevance is the inner product scaled by ``1 / sqrt(width)``.

    The text encoder's own weights are never changed: it is tuned through a LoRA (arXiv 2106.09685) on its linear
    layers, so the trained part stays small (:meth:`trained_state`). The paper tunes RoBERTa whole.

    Args:
        backbone: a bidirectional transformers model (BERT-like: takes ``input_ids`` or ``inputs_embeds``).
        tokenizer: its tokenizer.
        config: the shape.
    """

    def __init__(self, backbone: Any, tokenizer: Any, config: KnowledgeConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.reduced = False
        """Compute the text encoder in bfloat16 (training on processors that are faster at it)."""
        backbone.requires_grad_(False)
        hidden = int(backbone.config.hidden_size)
        limit = int(getattr(backbone.config, "max_position_embeddings", config.max_tokens))
        self._limit = min(config.max_tokens, limit)
        if config.prototypes > limit:
            raise InputError(f"{config.prototypes} prototype tokens exceed the encoder's {limit} positions")
        self.backbone = _with_lora(backbone, config)
        self.knowledge_head = ResidualHead(_FEATURES * hidden, config.width)
        self.query_head = ResidualHead(_FEATURES * hidden, config.width)
        spread = float(backbone.get_input_embeddings().weight.std())
        self.prototypes = nn.Parameter(torch.randn(1, config.prototypes, hidden) * spread)

    @property
    def scale(self) -> float:
        """What inner products are multiplied by: ``1 / sqrt(width)``."""
        return float(self.config.width**-0.5)

    def features(self, texts: Sequence[str]) -> Tensor:
        """Return ``[n, 4 * hidden]``: first token, mean, maximum, minimum."""
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._limit, return_tensors="pt"
        ).to(self.prototypes.device)
        hidden = self._hidden(**encoded)
        return _pool(hidden, encoded["attention_mask"])

    def knowledge(self, texts: Sequence[str]) -> Tensor:
        """Return the knowledge vectors r_k ``[n, width]`` of edit texts (prompt and target)."""
        vectors: Tensor = self.knowledge_head(self.features(texts))
        return vectors

    def queries(self, texts: Sequence[str]) -> Tensor:
        """Return the query vectors r_q ``[n, width]``."""
        vectors: Tensor = self.query_head(self.features(texts))
        return vectors

    def sentinel(self) -> Tensor:
        """Return the knowledge sentinel ``[1, width]``."""
        mask = torch.ones(self.prototypes.shape[:2], dtype=torch.long, device=self.prototypes.device)
        hidden = self._hidden(inputs_embeds=self.prototypes, attention_mask=mask)
        vector: Tensor = self.knowledge_head(_pool(hidden, mask))
        return vector

    def _hidden(self, **inputs: Tensor) -> Tensor:
        with torch.autocast(self.prototypes.device.type, torch.bfloat16, enabled=self.reduced):
            hidden: Tensor = self.backbone(**inputs).last_hidden_state
        return hidden.float()

    def trained_state(self) -> dict[str, Tensor]:
        """Return every tensor that training changes, by name: heads, prototypes, LoRA."""
        return {name: tensor.detach() for name, tensor in self._trained()}

    def weights_digest(self) -> str:
        """Return a SHA-256 over the trained tensors."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.trained_state().items()):
            digest.update(f"{name}|{tuple(tensor.shape)}\n".encode())
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def load_trained_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what :meth:`trained_state` gave.

        Raises:
            InputError: names or shapes are not those of this shape of encoder.
        """
        own = dict(self._trained())
        wrong = sorted(set(own) ^ set(tensors)) or sorted(n for n in own if own[n].shape != tensors[n].shape)
        if wrong:
            raise InputError(f"trained weights do not fit {self.config}: {', '.join(wrong[:4])} ... differ")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.named_parameters():
            if not name.startswith("backbone.") or "lora_" in name:
                yield name, parameter


def load_knowledge_encoder(name: str | Path, config: KnowledgeConfig, *, seed: int = 0) -> KnowledgeEncoder:
    """Build a :class:`KnowledgeEncoder` over the encoder ``name`` ("minilm", a folder, a model id).

    ``seed`` decides the initial heads and prototypes; the global random state is left as it was.

    Raises:
        ModelNotFoundError: there is no such encoder.
        UnsupportedModelError: it is not a transformers text encoder with safetensors weights.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = find_encoder(name)
    check_weights(folder)
    try:
        backbone = AutoModel.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{folder} holds no transformers text encoder: {error}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return KnowledgeEncoder(backbone.eval(), tokenizer, config)


def knowledge_text(prompt: str, target: str) -> str:
    """Return the sentence that stands for an edit: prompt, a space unless there is one, target."""
    glue = "" if prompt[-1:].isspace() or target[:1].isspace() else " "
    return f"{prompt}{glue}{target}"


def _pool(hidden: Tensor, mask: Tensor) -> Tensor:
    keep = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * keep).sum(1) / keep.sum(1)
    high = (hidden - (1 - keep) * _FAR).amax(1)
    low = (hidden + (1 - keep) * _FAR).amin(1)
    return torch.cat([hidden[:, 0], mean, high, low], dim=1)


def _with_lora(backbone: Any, config: KnowledgeConfig) -> Any:
    if config.lora_rank == 0:
        return backbone
    from peft import LoraConfig, inject_adapter_in_model

    names = [n for n, m in backbone.named_modules() if isinstance(m, nn.Linear) and "pooler" not in n]
    if not names:
        raise UnsupportedModelError(f"{type(backbone).__name__} has no linear layers to tune")
    settings = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=names)
    return inject_adapter_in_model(settings, backbone)
