"""A random BERT-like sentence encoder over letters, saved to a folder, for tests of every room."""

from pathlib import Path

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS), *".,?!'=>",
]  # fmt: skip


def save_tiny_encoder(folder: Path, *, seed: int = 0) -> Path:
    """Save a two-layer encoder of width 16 whose vectors differ from text to text; return its folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    base = folder / "base"
    base.mkdir(parents=True)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=96, initializer_range=0.5,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(base)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(VOCABULARY)}, model_max_length=96).save_pretrained(base)
    modules = [Transformer(str(base), max_seq_length=96), Pooling(16), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"
