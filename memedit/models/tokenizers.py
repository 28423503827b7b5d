"""What memedit needs of a tokenizer."""

from typing import Any

from memedit.errors import InputError


def prepare_tokenizer(tokenizer: Any) -> Any:
    """Give a tokenizer without a padding token its end-of-text token for padding; return the tokenizer.

    Only attention-masked positions ever hold it, so no answer changes.

    Raises:
        InputError: there is neither a padding nor an end-of-text token.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise InputError(
                f"tokenizer {type(tokenizer).__name__} has neither a padding nor an end-of-text token, so batches "
                "cannot be padded; set tokenizer.pad_token first"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def encode_as_data(tokenizer: Any, text: str) -> list[int]:
    """Tokenise ``text`` so that nothing in it becomes a control token: ``<|im_end|>`` yields ordinary characters.

    No special tokens are added. Used for all text that comes from an edit.
    """
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [int(i) for i in ids]


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids of a tokenizer's control tokens: special ones, and added ones that its chat template writes.

    Other added tokens are text that happens to have an id of its own (runs of newlines, HTML tags in Gemma's
    vocabulary): they open nothing.
    """
    template = str(getattr(tokenizer, "chat_template", None) or "")
    marked = {
        int(i)
        for i, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content.strip() and token.content in template)
    }
    return frozenset(marked) | frozenset(tokenizer.all_special_ids)
