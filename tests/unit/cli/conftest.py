"""A tiny model and a tiny encoder on disk, and the command run on them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from memedit.cli.main import app
from memedit.memory import EditMemory


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama-shaped model with a chat template, as ``save_pretrained`` leaves it."""
    from support.tiny import tiny_model, tiny_tokenizer

    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random sentence-transformers encoder."""
    from support.tiny_encoder import save_tiny_encoder

    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


class Command:
    """Runs ``memedit`` in this process on one memory, empty at first, one tiny encoder and one tiny model."""

    def __init__(self, folder: Path, encoder: Path, model: Path) -> None:
        self.database = folder / "edits.db"
        EditMemory(self.database).close()
        self.environment = {
            "MEMEDIT_MEMORY": str(self.database),
            "MEMEDIT_ENCODER": str(encoder),
            "MEMEDIT_MODEL__NAME": str(model),
            "MEMEDIT_SCOPE__NAME": "subject",
            "MEMEDIT_ADAPTER__NAME": "in_context",
            "HF_HUB_OFFLINE": "1",
        }

    def __call__(self, *words: str, input: str | None = None) -> Result:
        return CliRunner(env=self.environment).invoke(app, list(words), input=input)

    def json(self, *words: str, input: str | None = None) -> Any:
        """Run with ``--json``; the whole of stdout must be one document."""
        result = self(*words, "--json", input=input)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def memedit(tmp_path: Path, tiny_encoder_folder: Path, tiny_checkpoint: Path) -> Callable[..., Result]:
    return Command(tmp_path, tiny_encoder_folder, tiny_checkpoint)
