"""What most sentence encoders are, a BERT and the mean over its tokens, read without sentence-transformers."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from memedit.encoders.bert import Bert, load_bert

_POOLING = {"word_embedding_dimension", "embedding_dimension", "include_prompt", "pooling_mode"}
_KINDS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])


class MeanModel(nn.Module):
    """Gives what sentence-transformers' modules give for the same files, to float rounding.

    Args:
        bert: the transformer.
        tokenizer: the folder's.
        max_seq_length: tokens that are read.
        prompts: texts in front of inputs by name, and which of them is the ``default_prompt_name``.
    """

    def __init__(
        self, bert: Bert, tokenizer: Any, max_seq_length: int, prompts: dict[str, str], default_prompt_name: str | None
    ) -> None:
        super().__init__()
        self.bert, self.tokenizer, self.max_seq_length = bert, tokenizer, max_seq_length
        self.prompts, self.default_prompt_name = prompts, default_prompt_name

    def get_embedding_dimension(self) -> int:
        """Return the width d."""
        return int(self.bert.config.hidden_size)

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """Return states of tokens ``[n, t, d]`` and their means ``[n, d]``."""
        mask = features["attention_mask"]
        tokens = self.bert(features["input_ids"], mask, features.get("token_type_ids"))
        weights = mask.unsqueeze(-1).to(tokens.dtype)
        mean = (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return {"token_embeddings": tokens, "sentence_embedding": mean}


def load_mean_model(folder: Path) -> MeanModel | None:
    """Return the encoder in a folder; None where it is made of other modules, which sentence-transformers has.

    Raises:
        OSError: a file cannot be read; further errors of JSON and safetensors where it is damaged.
    """
    if not _is_mean(folder):
        return None
    bert = load_bert(folder)
    if bert is None:
        return None
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    own = min(int(bert.config.max_position_embeddings), int(tokenizer.model_max_length))
    limit = _read(folder, "sentence_bert_config.json").get("max_seq_length") or own
    described = _read(folder, "config_sentence_transformers.json")
    prompts = described.get("prompts") or {}
    return MeanModel(bert, tokenizer, int(limit), prompts, described.get("default_prompt_name"))


def _is_mean(folder: Path) -> bool:
    """Say whether the modules are a transformer in the folder itself, the mean over all tokens, and a normalisation."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        if kinds not in _KINDS or modules[0]["path"]:
            return False
        pooling = _read(folder, f"{modules[1]['path']}/config.json")
    except (OSError, ValueError, KeyError, TypeError):
        return False
    legacy = {name for name, value in pooling.items() if name not in _POOLING and value}
    is_mean = (pooling.get("pooling_mode") == "mean" and not legacy) or legacy == {"pooling_mode_mean_tokens"}
    return is_mean and pooling.get("include_prompt", True) is True


def _read(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
