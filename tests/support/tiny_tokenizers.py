"""Small tokenizers in the shape of the families people run, each trained in milliseconds.

``from tiny_tokenizers import FAMILY_TOKENIZERS``: name -> a function that makes one. Their added tokens and what stands
around the model (normaliser, pre-tokenizer, which added tokens stand in the vocabulary too) are as published; the
vocabularies are small, and trained on text that holds the added tokens' words.
"""

import string
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

_TEXT = (
    "The capital of France is Paris. Who founded the Red Cross? It was Henry Dunant, in 1863. Ünïcödé, 日本 and so on.",
    "def tool_call(x):\n    return x\n\n\n<h1>Title</h1> system user assistant think start_of_turn end_of_turn",
    "im_start im_end endoftext eot_id start_header_id INST /INST extra_id_0 pad unk bos eos",
)
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(*, whole_words: bool = False, pattern: str | None = _WORDS, first: Sequence[str] = ()) -> Tokenizer:
    core = Tokenizer(models.BPE(ignore_merges=whole_words))
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    split = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    core.pre_tokenizer = pre_tokenizers.Sequence([*split, bytes_of])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=alphabet, show_progress=False, special_tokens=list(first)
    )
    core.train_from_iterator([*_TEXT, *_names_as_text(first)] * 4, trainer)
    return core


def _names_as_text(names: Sequence[str]) -> list[str]:
    return [name[:-1] + " " + name[1:] for name in names]


def _sentencepiece_bpe(first: Sequence[str], *, prepend: bool) -> Tokenizer:
    letters = sorted({letter for text in _TEXT for letter in text.replace(" ", "▁")} | set("<>[]/|_"))
    pieces = [*first, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    merges = []
    for left, right in (
        ("t", "h"),
        ("▁", "th"),
        ("\n", "\n"),
        ("▁", "▁"),
        ("<", "/"),
        ("</", "s"),
        ("</s", ">"),
        ("[", "I"),
    ):
        vocabulary.setdefault(left + right, len(vocabulary))
        merges.append((left, right))
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", "▁")
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prepend else spaces
    if not prepend:
        core.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prepend else parts)
    return core


def _wrapped(core: Tokenizer, special: Sequence[Any], other: Sequence[Any] = (), **roles: str) -> Any:
    core.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) if isinstance(t, str) else t for t in special]
    )
    core.add_tokens([AddedToken(t, normalized=False) if isinstance(t, str) else t for t in other])
    return PreTrainedTokenizerFast(tokenizer_object=core, **roles)


def llama3() -> Any:
    """Byte-level BPE that takes whole words from the vocabulary; all added tokens are special."""
    names = (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|eom_id|>",
    )
    return _wrapped(
        _byte_level(whole_words=True), names, bos_token=names[0], eos_token="<|eot_id|>", pad_token="<|end_of_text|>"
    )


def qwen25() -> Any:
    """Byte-level BPE behind NFC; ``<tool_call>`` is added and not special."""
    core = _byte_level()
    core.normalizer = normalizers.NFC()
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>")
    other = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|repo_name|>")
    return _wrapped(core, special, other, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def qwen3() -> Any:
    """As Qwen2.5, with ``<think>`` and ``<tool_response>``."""
    core = _byte_level()
    core.normalizer = normalizers.NFC()
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    other = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
    return _wrapped(core, special, other, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def gemma() -> Any:
    """SentencePiece BPE; control tokens, HTML tags and runs of blanks are added tokens that stand in its vocabulary."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
    other = ("[multimodal]", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "<h1>", "</h1>", "<unused0>")
    core = _sentencepiece_bpe((*special, *other), prepend=False)
    return _wrapped(core, special, other, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")


def mistral() -> Any:
    """SentencePiece BPE that prepends a blank, as Llama 2's and Mistral's; v0.3 has added tokens for its turns."""
    special = ("<unk>", "<s>", "</s>")
    turns = ("[INST]", "[/INST]", "[TOOL_CALLS]")
    core = _sentencepiece_bpe((*special, *turns), prepend=True)
    return _wrapped(core, (*special, *turns), bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>")


def phi3() -> Any:
    """As Llama 2's, with turn markers that swallow the white space behind them."""
    special = ("<unk>", "<s>", "</s>", "<|endoftext|>")
    markers = [AddedToken(f"<|{name}|>", special=True, rstrip=True) for name in ("assistant", "system", "end", "user")]
    core = _sentencepiece_bpe(special, prepend=True)
    return _wrapped(core, [*special, *markers], bos_token="<s>", eos_token="<|endoftext|>", unk_token="<unk>")


def phi2() -> Any:
    """GPT-2's tokenizer with runs of blanks as added tokens."""
    core = _byte_level(pattern=None, first=("<|endoftext|>",))
    runs = [" " * size for size in range(2, 6)] + ["\t" * size for size in range(2, 4)]
    return _wrapped(core, ("<|endoftext|>",), runs, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def gpt2() -> Any:
    """Byte-level BPE; one token is beginning, end and unknown."""
    core = _byte_level(pattern=None, first=("<|endoftext|>",))
    end = "<|endoftext|>"
    return _wrapped(core, (end,), bos_token=end, eos_token=end, unk_token=end)


def t5() -> Any:
    """SentencePiece unigram model: its vocabulary spells ``</s>`` and ``<extra_id_0>`` at no cost."""
    special = ("<pad>", "</s>", "<unk>")
    extra = tuple(f"<extra_id_{n}>" for n in range(3))
    letters = [*string.ascii_letters, *string.digits, *"<>/|_[].,?\n▁"]
    pieces = [*((name, 0.0) for name in (*special, *extra)), *((letter, -6.0) for letter in letters), ("▁the", -3.0)]
    core = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    core.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return _wrapped(core, (*special, *extra), eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def spelt() -> Any:
    """A byte-level BPE without a pre-tokenizer's words, whose own merges spell its added tokens."""
    names = ("<|im_end|>", "<think>")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary, merges = {letter: i for i, letter in enumerate(letters)}, []
    for name in names:
        for size in range(2, len(name) + 1):
            if name[:size] not in vocabulary:
                vocabulary[name[:size]] = len(vocabulary)
                merges.append((name[: size - 1], name[size - 1]))
    core = Tokenizer(models.BPE(vocabulary, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return _wrapped(core, names[:1], names[1:], eos_token="<|im_end|>", pad_token="<|im_end|>")


def byt5() -> Any:
    """A tokenizer written in Python: bytes, and added tokens in front of and behind them."""
    return ByT5Tokenizer(extra_ids=5)


FAMILY_TOKENIZERS: dict[str, Callable[[], Any]] = {
    "llama3": llama3,
    "qwen2.5": qwen25,
    "qwen3": qwen3,
    "gemma": gemma,
    "mistral": mistral,
    "phi2": phi2,
    "phi3": phi3,
    "gpt2": gpt2,
    "t5": t5,
    "spelt": spelt,
    "byt5": byt5,
}
"""One of each shape."""
