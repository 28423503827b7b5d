"""Measure MEND's artefacts: seconds and bytes an edit, and whether anything changes when more edits are added.

Run from the repository: ``OMP_NUM_THREADS=1 python tests/integration/measure_mend.py counterfact_train.jsonl``. The
last rows of the file are stored and asked, then the rows before them are added, and the same is asked again.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from memedit.adapters import create_adapter
from memedit.memory import EditMemory
from memedit.models import load_model
from memedit.runtime import EditableModel
from memedit.types import EditDraft


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--asked", type=int, default=100)
    parser.add_argument("--more", type=int, default=1000)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.file.read_text(encoding="utf-8").splitlines()]
    rows = rows[-options.asked - options.more :]
    asked, more = rows[-options.asked :], rows[: options.more]
    base = load_model(options.model)
    adapter = create_adapter(
        "mend", base.model, base.tokenizer, **({} if options.weights is None else {"weights": options.weights})
    )
    with EditMemory(":memory:") as memory:
        model = EditableModel.wrap(base.model, base.tokenizer, memory, adapter=adapter)
        memory.add_many([_edit(row) for row in asked], on_conflict="supersede")
        first = memory.list()
        seconds, processor = [], []
        for edit in first:
            began, used = time.perf_counter(), time.process_time()
            adapter.prepare([edit])
            seconds.append(time.perf_counter() - began)
            processor.append(time.process_time() - used)
        model.prepare()
        ids = [edit.id for edit in first]
        before = memory.get_artefacts("mend", adapter.fingerprint, ids)
        prompts = [text for row in asked for text in (row["prompt"], row["rephrase_prompt"])]
        answers = _answers(model, prompts)
        memory.add_many([_edit(row) for row in more], on_conflict="supersede")
        kept = {edit.id for edit in memory.list()} & set(ids)
        again = adapter.prepare([edit for edit in memory.list() if edit.id in kept][:20])
        stored = memory.get_artefacts("mend", adapter.fingerprint, ids)
        now = _answers(model, prompts)
    same = [a[0] == b[0] for a, b in zip(answers, now, strict=True) if a[1] and a[1] == b[1]]
    report = {
        "edits": len(first),
        "more": len(more),
        "seconds_per_edit_median": round(statistics.median(seconds), 3),
        "processor_seconds_per_edit_median": round(statistics.median(processor), 3),
        "processor_seconds_per_edit_most": round(max(processor), 3),
        "bytes_most": max(map(len, before.values())),
        "bytes_median": int(statistics.median(map(len, before.values()))),
        "stored_identical": f"{sum(before[i] == stored.get(i) for i in ids)}/{len(ids)}",
        "made_again_identical": f"{sum(before[i] == blob for i, blob in again.items())}/{len(again)}",
        "answers_identical_where_the_same_edits_fire": f"{sum(same)}/{len(same)}",
        "asked": len(prompts),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


def _edit(row: dict[str, str]) -> EditDraft:
    return EditDraft(prompt=row["prompt"], target=row["target_new"], subject=row["subject"])


def _answers(model: EditableModel, prompts: list[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return text and fired edits of each prompt, in batches of 32."""
    found = []
    for start in range(0, len(prompts), 32):
        answers = model.answer(prompts[start : start + 32], max_new_tokens=12, do_sample=False)
        found += [(answer.text, tuple(hit.edit.id for hit in answer.edits)) for answer in answers]
    return found


if __name__ == "__main__":
    main()
