"""write_whole: the old file or the new one, never a part, and nothing left behind."""

import os
import threading
from pathlib import Path

import pytest

from memedit.whole_files import write_json, write_text, write_whole


def test_it_makes_the_folder_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_json(path, {"b": 1, "a": "ß"})
    assert path.read_text(encoding="utf-8") == '{\n "a": "\\u00df",\n "b": 1\n}\n'
    write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    write_text(path, "old")

    def half(partial: Path) -> None:
        partial.write_text("hal")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_do_not_take_each_others_file(tmp_path: Path) -> None:
    path, texts = tmp_path / "shared.txt", [str(i) * 50_000 for i in range(8)]
    threads = [threading.Thread(target=write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    read: list[str] = []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "said")
    reader.join(10)
    assert read == ["said"]
    assert pipe.is_fifo(), "a file moved into its place would take the device or pipe from everybody"
