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
    """Return the ids of every added (control) token of the tokenizer, special or not."""
    return frozenset(int(i) for i in tokenizer.get_added_vocab().values()) | frozenset(tokenizer.all_special_ids)
