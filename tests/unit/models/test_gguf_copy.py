"""GGUF checkpoints become safetensors ones, on tiny files that gguf-py writes."""

import hashlib
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from memedit.cache import cache_home
from memedit.errors import ModelError
from memedit.models import ALIASES, PackagedModel, load_model, loading
from memedit.models.gguf_copy import architecture, copy_model
from support.tiny import tiny_model, tiny_tokenizer

PROMPT = torch.tensor([[5, 9, 100, 30]])


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def tiny_qwen(family: str):
    """A tiny model with room for a token that is merged of others: transformers reads no vocabulary without one."""
    model = tiny_model(family)
    model.resize_token_embeddings(len(tiny_tokenizer()) + 1)
    return model


def write_gguf(path: Path, model, *, leave_out: str = "", head: str | None = "own") -> Path:
    """Write a tiny Qwen model as GGUF, matrices in 8 bits and the embedding in 16.

    ``head`` is its "own", the embedding "twice", or None.
    """
    config, tokenizer = model.config, tiny_tokenizer()
    writer = gguf.GGUFWriter(path, config.model_type)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if config.model_type == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    names = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))] + ["ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(names)
    writer.add_token_types([3 if i < 3 else 1 for i in range(len(names))])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == config.model_type)
    known = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    state = dict(model.state_dict())
    if head != "own":
        del state["lm_head.weight"]
    if head == "twice":
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    for name, value in state.items():
        called = known.get_name(name, try_suffixes=(".weight", ".bias"))
        values = value.float().numpy()
        if called == leave_out:
            continue
        if called == "token_embd.weight":
            writer.add_tensor(called, values.astype(np.float16))
        elif values.ndim == 2 and values.shape[1] % 32 == 0:
            quantised = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(called, quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(called, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=PROMPT).logits[0].float()


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_the_copy_computes_what_the_file_holds(tmp_path, family):
    model = tiny_qwen(family)
    path = write_gguf(tmp_path / "tiny.gguf", model)
    assert architecture(path) == family
    loaded = load_model(path)
    assert loaded.model.dtype == torch.float32
    assert type(loaded.model) is type(model)
    for name, value in loaded.model.state_dict().items():
        wanted = model.state_dict()[name]
        assert (value - wanted).abs().max() <= wanted.abs().max() / 100, name
    assert (logits(loaded.model) - logits(model)).abs().max() < 0.2 * logits(model).abs().max()
    assert loaded.tokenizer.eos_token == "<|im_end|>"
    assert loaded.tokenizer.chat_template


def test_a_matrix_that_the_file_holds_twice_is_kept_once(tmp_path):
    model = tiny_qwen("qwen2")
    path = write_gguf(tmp_path / "tiny.gguf", model, head="twice")
    kept: dict[bool, Path] = {tied: tmp_path / str(tied) for tied in (False, True)}
    sizes = {}
    for tied, folder in kept.items():
        folder.mkdir()
        copy_model(path, folder, dtype=torch.float32, tied=tied)
        sizes[tied] = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    tiny_tokenizer().save_pretrained(kept[True])
    embedding = model.get_input_embeddings().weight
    assert sizes[False] - sizes[True] > embedding.numel() * 4 - 200
    loaded = load_model(kept[True]).model
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    error = (loaded.get_input_embeddings().weight - embedding).abs().max()
    assert 1e-5 < error < 0.02  # the head's 8 bits, not the embedding's 16


def test_a_file_without_a_head_is_tied(tmp_path):
    loaded = load_model(write_gguf(tmp_path / "tiny.gguf", tiny_qwen("qwen2"), head=None)).model
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


def test_an_absent_tensor_is_named(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", tiny_qwen("qwen2"), leave_out="blk.1.ffn_up.weight")
    with pytest.raises(ModelError, match=r"no tensor 'blk\.1\.ffn_up\.weight'"):
        load_model(path)
    assert not list((cache_home() / "models").glob("*tiny*partial"))


def test_files_are_shared_out_and_those_that_stand_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("memedit.models.gguf_copy._FILE_BYTES", 16_000)
    model, folder, told = tiny_qwen("qwen2"), tmp_path / "copy", []
    path = write_gguf(tmp_path / "tiny.gguf", model)
    folder.mkdir()
    copy_model(path, folder, dtype=torch.bfloat16, tied=False, progress=lambda done, total: told.append((done, total)))
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) > 3
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
    before = {file: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    copy_model(path, folder, dtype=torch.bfloat16, tied=False)
    assert {file for file in files if file.stat().st_mtime_ns != before[file]} == {files[1]}
    tiny_tokenizer().save_pretrained(folder)
    assert load_model(folder, dtype="auto").model.dtype == torch.bfloat16


def test_a_pull_that_was_interrupted_goes_on_where_it_ended(tmp_path, monkeypatch):
    whole = write_gguf(tmp_path / "tiny.gguf", tiny_qwen("qwen2")).read_bytes()
    (tmp_path / "parts").mkdir()
    for number, piece in enumerate((whole[:5000], whole[5000:])):
        (tmp_path / "parts" / f"{number}.bin").write_bytes(piece)

    kind = PackagedModel(
        "tiny", (("parts", "0.bin"), ("parts", "1.bin")), hashlib.sha256(whole).hexdigest(), "", "", ""
    )
    monkeypatch.setitem(ALIASES, "tiny", kind)
    monkeypatch.syspath_prepend(tmp_path)
    assembled, stopped = [], []

    def stop(*args, **options):
        stopped.append(True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loading, "copy_model", stop)
        with pytest.raises(KeyboardInterrupt):
            load_model("tiny")
    assert stopped
    real = loading.assemble
    monkeypatch.setattr(loading, "assemble", lambda *a: assembled.append(a) or real(*a))
    assert load_model("tiny").model.config.model_type == "qwen2"
    assert not assembled
    folders = [entry.name for entry in (cache_home() / "models").iterdir() if entry.is_dir()]
    assert len(folders) == 1
    assert not list((cache_home() / "models" / folders[0]).glob("*.gguf"))


def test_what_is_no_gguf_has_no_architecture(tmp_path):
    (tmp_path / "x").write_bytes(b"GGU")
    assert architecture(tmp_path / "x") is None
    (tmp_path / "x").write_bytes(b"GGUF" + bytes(100))
    assert architecture(tmp_path / "x") is None
