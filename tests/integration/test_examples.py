"""Every example runs, prints, and prints what it promises."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"
PROMISES = {
    "01_first_correction.py": ["corrected: True", "untouched answer is the same: True"],
    "02_memory_that_keeps_history.py": [
        "adding the same edit twice changes nothing: True",
        "refused, though worded differently:",
        "in force now: ['Tomasz Wilk']",
        "in force before: ['Ines Okafor']",
        "after restoring: ['Tomasz Wilk']",
    ],
    "03_import_and_search.py": ["imported 20 edits", "in the Tide Hall", "same edits after export and import: 20"],
    "04_generate_in_batches.py": ["no edits: same tensor: True", "same tokens", "edited"],
    "05_why_did_it_answer_that.py": ["fires: True", "fires: False", "streamed: "],
    "06_consolidate.py": [
        "planned: 3 new edits",
        "published: True",
        "(by weights: True)",
        "after the rollback the memory serves them again: True",
    ],
    "07_own_adapter.py": ["footnote: ", "says the target: True", "untouched answer is the same: True"],
}


def test_every_example_is_run_here() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.py")) == sorted(PROMISES)


@pytest.mark.integration
@pytest.mark.parametrize("name", sorted(PROMISES))
def test_example_prints_what_it_promises(name: str, tmp_path: Path) -> None:
    before = _processor_seconds()
    done = subprocess.run(
        [sys.executable, str(FOLDER / name)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"},
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for promise in PROMISES[name]:
        assert promise in done.stdout
    # processor time on one thread, since tests may share the machine; two threads of one core take twice as long
    assert _processor_seconds() - before < 240


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
