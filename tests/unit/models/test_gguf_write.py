"""Models as GGUF: transformers reads back the same numbers and the same tokens."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from memedit.errors import UnsupportedModelError
from memedit.models.gguf_write import write_gguf
from support import tiny_tokenizers
from support.tiny import tiny_model, tiny_tokenizer

pytest.importorskip("gguf")
TEXT = "hello world 12 the"


def _model(family: str, tokenizer: object, **changes: object) -> torch.nn.Module:
    config = tiny_model(family).config
    roles = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    # transformers' reader of GGUF takes 128 for the width of qwen3's heads, whatever the file says
    width = {"head_dim": 128} if family == "qwen3" else {}
    config.update({"vocab_size": len(tokenizer), **roles, **width, **changes})  # type: ignore[arg-type]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
def test_transformers_reads_the_same_model(family: str, tied: bool, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizers.qwen25()
    model = _model(family, tokenizer, tie_word_embeddings=tied)
    write_gguf(model, tokenizer, tmp_path / "model.gguf", name="tiny")
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    assert words(TEXT, return_tensors="pt").input_ids.tolist() == ids.tolist()
    assert words.chat_template == tokenizer.chat_template
    with torch.no_grad():
        torch.testing.assert_close(read(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)


def test_half_precision_halves_the_matrices(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizers.qwen25()
    model = _model("llama", tokenizer)
    for name, half in (("whole", False), ("half", True)):
        write_gguf(model, tokenizer, tmp_path / f"{name}.gguf", half=half)
    matrices = sum(value.numel() for value in model.state_dict().values() if value.dim() > 1)
    saved = (tmp_path / "whole.gguf").stat().st_size - (tmp_path / "half.gguf").stat().st_size
    assert saved == pytest.approx(2 * matrices, rel=0.05)


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="gpt2"):
        write_gguf(tiny_model("gpt2"), tiny_tokenizer(), tmp_path / "a.gguf")
    with pytest.raises(UnsupportedModelError, match="byte-level BPE"):
        write_gguf(tiny_model("llama"), tiny_tokenizers.gemma(), tmp_path / "b.gguf")
    assert list(tmp_path.iterdir()) == []
