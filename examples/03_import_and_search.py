"""A file of edits into a database, found by words and by meaning, and written out again."""

import tempfile
from pathlib import Path

from memedit import EditMemory

EDITS = Path(__file__).resolve().parents[1] / "indexes" / "maren_bay" / "edits.jsonl"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with EditMemory(Path(folder) / "maren_bay.db") as memory:
            report = memory.import_file(EDITS, format="jsonl")
            print(f"imported {len(report.added)} edits")
            print("by words, 'lighthouse':")
            for edit, _ in memory.search("lighthouse", k=3):
                print(f"  {edit.prompt} -> {edit.target}")
            print("by meaning, 'where can I hear an orchestra':")
            for edit, _ in memory.search("where can I hear an orchestra", k=1, mode="semantic"):
                print(f"  {edit.prompt} -> {edit.target}")
            print("about transport:", len(memory.list(metadata={"topic": "transport"})))

            copy = Path(folder) / "copy.jsonl"
            memory.export(copy)
        with EditMemory(":memory:") as other:
            print("same edits after export and import:", len(other.import_file(copy, format="jsonl").added))


if __name__ == "__main__":
    main()
