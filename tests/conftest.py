"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that train, serve or ask a real model first: workers take whole files, one at a time."""
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("integration")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of published data sets: ``$MEMEDIT_DATA``, or ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("MEMEDIT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "counterfact_train.jsonl").is_file():
        pytest.skip(f"published data sets not found in {folder}; set MEMEDIT_DATA to their folder")
    return folder
