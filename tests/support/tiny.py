"""Tiny random models and a byte-level tokenizer, built in milliseconds, for tests of every room.

``from tiny import tiny_model, tiny_tokenizer, FAMILIES``
"""

from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

HIDDEN, INTERMEDIATE, LAYERS, HEADS = 32, 48, 3, 4

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_tokenizer(chat: bool = True) -> Any:
    """A byte-level tokenizer (one token a byte, 259 in all) with ChatML control tokens; eos ``<|im_end|>``."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    controls = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    core = Tokenizer(models.BPE(vocab=controls | {letter: i + 3 for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    if chat:
        tokenizer.chat_template = CHATML
    return tokenizer


@cache
def _tokens() -> dict[str, int]:
    tokenizer = tiny_tokenizer()
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _common() -> dict[str, Any]:
    return {
        **_tokens(),
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 2048,
    }


def _config(family: str) -> Any:
    common = _common()
    grouped = {**common, "num_key_value_heads": 2}
    if family == "llama":
        return transformers.LlamaConfig(**grouped)
    if family == "qwen2":
        return transformers.Qwen2Config(**grouped)
    if family == "qwen3":
        return transformers.Qwen3Config(**grouped, head_dim=8)
    if family == "gemma3":
        return transformers.Gemma3TextConfig(**grouped, head_dim=8, sliding_window=64)
    if family == "mistral":
        return transformers.MistralConfig(**grouped, head_dim=8, sliding_window=None)
    if family == "phi":
        return transformers.PhiConfig(**common)
    if family == "gpt_neox":
        return transformers.GPTNeoXConfig(**common)
    old = {**_tokens(), "n_embd": HIDDEN, "n_inner": INTERMEDIATE, "n_layer": LAYERS}
    if family == "gpt2":
        return transformers.GPT2Config(**old, n_head=HEADS, n_positions=2048)
    if family == "gptj":
        return transformers.GPTJConfig(**old, n_head=HEADS, n_positions=2048, rotary_dim=4)
    raise ValueError(family)


FAMILIES = ("llama", "qwen2", "qwen3", "gemma3", "mistral", "phi", "gpt2", "gptj", "gpt_neox")


def tiny_model(family: str = "llama", seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A random causal LM of that family in eval mode: hidden 32, intermediate 48, 3 layers, 2048 positions."""
    config = _config(family)
    config.initializer_range = 0.3  # large enough that greedy answers depend on the prompt
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()
