"""What memedit needs of a tokenizer: padding, and text that stays text.

A tokenizer looks for its added tokens (``<|im_end|>``, ``<tool_call>``, ``[INST]`` ...) before its model sees the
text. Text that comes from an edit is untrusted, so none of them may come of it, special or not: where one would, the
text goes through the tokenizer's normaliser, pre-tokenizer and model alone, which know nothing of added tokens, and a
word in which the model's own vocabulary spells one is cut between its characters.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from memedit.errors import InputError

_BLANK = "\u2581"
"""How SentencePiece writes a space."""

_barred: "WeakKeyDictionary[Any, tuple[tuple[Any, ...], frozenset[int]]]" = WeakKeyDictionary()


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
    """Tokenise ``text`` so that none of its characters becomes an added token: ``<|im_end|>`` yields ordinary tokens.

    Used for all text that comes from an edit. No special tokens are added. Text in which no added token stands is
    tokenised as the tokenizer would. A character that the vocabulary does not know becomes its unknown token, where
    that has no other use; where it has (GPT-2's ends a text), the character is left out, as is one that is an added
    token by itself.
    """
    barred = barred_ids(tokenizer)
    ids = [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    if barred.isdisjoint(ids):
        return ids
    return _own_ids(tokenizer, text, barred)


def encode_with_spans(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]] | None]:
    """Return :func:`encode_as_data`'s ids and the characters (start, end) of each; None where they cannot be told.

    They cannot under a tokenizer written in Python, nor where the text held an added token.
    """
    ids = encode_as_data(tokenizer, text)
    if not tokenizer.is_fast:
        return ids, None
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    same = [int(i) for i in found["input_ids"]] == ids
    return ids, [(int(low), int(high)) for low, high in found["offset_mapping"]] if same else None


def barred_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids that no text of an edit may become: every special token and every added one that can be seen.

    Added tokens of nothing but white space (Gemma's runs of line breaks) are text: they open nothing.
    """
    key = (len(tokenizer), *map(str, tokenizer.special_tokens_map.values()))
    known = _barred.get(tokenizer)
    if known is None or known[0] != key:
        added = tokenizer.added_tokens_decoder.items()
        seen = {int(i) for i, token in added if token.special or token.content.replace(_BLANK, " ").strip()}
        known = (key, frozenset(seen) | frozenset(tokenizer.all_special_ids))
        _barred[tokenizer] = known
    return known[1]


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids that shape a prompt: special tokens, and added ones that the chat template writes.

    Other added tokens may stand in what a user says (HTML tags in Gemma's vocabulary).
    """
    template = str(getattr(tokenizer, "chat_template", None) or "")
    marked = {
        int(i)
        for i, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content.strip() and token.content in template)
    }
    return frozenset(marked) | frozenset(tokenizer.all_special_ids)


def _own_ids(tokenizer: Any, text: str, barred: frozenset[int]) -> list[int]:
    """Return the ids that the tokenizer's model makes of the text, with its added tokens out of the way."""
    if not tokenizer.is_fast:  # written in Python: splitting at added tokens can be switched off for a call

        def encode(part: str) -> list[int]:
            return [int(i) for i in tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"]]

        return _cut_ids(text, encode, tokenizer, barred)
    backend = tokenizer.backend_tokenizer  # nothing of it is changed: other threads tokenise prompts with it
    normal = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
    split = backend.pre_tokenizer
    words = [normal] if split is None else [word for word, _ in split.pre_tokenize_str(normal)]

    def tokenize(part: str) -> list[int]:
        return [int(token.id) for token in backend.model.tokenize(part)]

    return [i for word in words if word for i in _cut_ids(word, tokenize, tokenizer, barred)]


def _cut_ids(text: str, encode: Callable[[str], list[int]], tokenizer: Any, barred: frozenset[int]) -> list[int]:
    """Return the ids of ``text``, cut between its characters wherever the vocabulary spells a barred token."""
    ids = encode(text)
    found = [text.find(tokenizer.convert_ids_to_tokens(i)) for i in ids if i in barred]
    places = [place for place in found if place >= 0]
    if places and len(text) > 1:
        cut = places[0] + 1 if places[0] + 1 < len(text) else places[0]
        return [i for part in (text[:cut], text[cut:]) for i in _cut_ids(part, encode, tokenizer, barred)]
    return [i for i in ids if i not in barred or (not places and i in _unknown(tokenizer))]


def _unknown(tokenizer: Any) -> frozenset[int]:
    """Return the unknown token's id unless it serves for something else too."""
    roles = list(tokenizer.special_tokens_map.values())
    alone = tokenizer.unk_token_id is not None and roles.count(tokenizer.unk_token) == 1
    return frozenset({int(tokenizer.unk_token_id)}) if alone else frozenset()
