"""Fields of a request that change an answer and that the local engine does not honour: refused, never ignored."""

from collections.abc import Mapping
from typing import Any

from memedit.server.problems import ApiError

_EMPTY: tuple[Any, ...] = (None, "", [], {})

_SILENT: Mapping[str, tuple[Any, ...]] = {
    # OpenAI's own
    "best_of": (1,), "echo": (False,), "suffix": (), "functions": (),
    "function_call": ("none", "auto"), "modalities": (["text"],), "audio": (), "reasoning_effort": ("none",),
    "verbosity": ("medium",), "web_search_options": (), "reasoning": (), "thinking": ({"type": "disabled"},),
    # vLLM's and SGLang's
    "structural_tag": (), "stop_regex": (), "guided_decoding_backend": (), "guided_whitespace_pattern": (),
    "min_p": (0,), "min_tokens": (0,), "min_new_tokens": (0,), "stop_token_ids": (), "bad_words": (),
    "allowed_token_ids": (), "include_stop_str_in_output": (False,), "no_stop_trim": (False,),
    "skip_special_tokens": (True,), "continue_final_message": (False,), "add_generation_prompt": (True,),
    "add_special_tokens": (), "chat_template": (), "chat_template_kwargs": (), "documents": (), "prompt_logprobs": (),
    "truncate_prompt_tokens": (-1,), "use_beam_search": (False,), "length_penalty": (1,), "early_stopping": (False,),
    "logits_processors": (), "logit_processors": (), "mm_processor_kwargs": (), "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,), "lora_path": (), "vllm_xargs": (), "custom_params": (),
    "thinking_token_budget": (), "repetition_detection": (), "prompt_embeds": (),
    # llama.cpp's, TGI's and transformers'
    "mirostat": (0,), "typical_p": (1,), "typ_p": (1,), "tfs_z": (1,), "repeat_penalty": (1,), "dynatemp_range": (0,),
    "xtc_probability": (0,), "dry_multiplier": (0,), "top_n_sigma": (-1,), "samplers": (), "n_predict": (-1,),
    "n_probs": (0,), "num_ctx": (), "top_a": (0,), "watermark": (False,), "decoder_input_details": (False,),
    "max_new_tokens": (), "max_length": (), "min_length": (0,), "num_beams": (1,), "no_repeat_ngram_size": (0,),
    "penalty_alpha": (0,), "bad_words_ids": (), "force_words_ids": (), "epsilon_cutoff": (0,), "eta_cutoff": (0,),
}  # fmt: skip
"""Fields, and the values beside nothing at all at which they change nothing."""


def check_extra(extra: Mapping[str, Any]) -> None:
    """Refuse what this engine would have to ignore; fields that are not known at all have no effect.

    Raises:
        ApiError: 400, names the field.
    """
    for name in extra:
        if name in _SILENT and not _among(extra[name], (*_EMPTY, *_SILENT[name])):
            raise _unsupported(name)
    if (extra.get("stream_options") or {}).get("continuous_usage_stats"):
        raise _unsupported("stream_options.continuous_usage_stats")


def check_message(message: Mapping[str, Any], place: str) -> None:
    """Refuse what a message asks for that is not honoured.

    Raises:
        ApiError: 400, names the field.
    """
    for name in ("prefix", "partial", "audio"):
        if message.get(name):
            raise _unsupported(f"{place}.{name}")


def _among(value: Any, known: tuple[Any, ...]) -> bool:
    """Whether ``value`` is one of these; numbers are not taken for truth values, nor the other way round."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in known)


def _unsupported(name: str) -> ApiError:
    return ApiError(400, f"{name} is not supported by this engine", code="unsupported_parameter", param=name)
