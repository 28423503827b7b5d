"""Measure what follows from an edit: made-up facts about countries, asked verbatim, reworded, and one step further.

Run from the repository: ``OMP_NUM_THREADS=1 python tests/integration/measure_propagation.py --methods prepend,mend``.
The right edit is fired by hand, so that methods alone are compared; further steps are those that the base answers when
the country is named. Facts that a network of the preset ``propmend`` was trained on are left out. ``prepend`` is the
edit in the prompt, the ceiling; ``unseen`` are steps of a relation left out of training.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memedit.adapters import create_adapter
from memedit.evaluation.metrics.statistics import rate
from memedit.evaluation.protocols import is_prefix
from memedit.memory import EditMemory
from memedit.models import load_model
from memedit.models.segments import Segments
from memedit.models.training import training_copy
from memedit.runtime import EditableModel
from memedit.training.facts import Fact
from memedit.training.hypernet.propagation import drawn, made_up
from memedit.training.hypernet.settings import PRESETS
from memedit.types import EditDraft
from memedit.workflows.evaluate.methods import OracleScope

Question = tuple[str, str, str]
"""Kind, text and answer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=50)
    parser.add_argument("--methods", default="base,prepend,mend,propmend")
    parser.add_argument("--weights", action="append", default=[], metavar="METHOD=FOLDER")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    folders = dict(item.split("=", 1) for item in options.weights)
    base, settings = load_model(options.model), PRESETS["propmend"].settings
    segments = Segments(training_copy(base.model, "auto"))
    seen = {fact.prompt for _, fact in drawn(settings.world, seed=settings.seed)}
    others = made_up(options.facts, segments, base.tokenizer, seed=settings.seed + 1)
    facts = [fact for fact in others if fact.prompt not in seen]
    questions = [(fact, one) for fact in facts for one in _questions(fact, settings.unseen)]
    for method in options.methods.split(","):
        with EditMemory(":memory:") as memory:
            memory.add_many([EditDraft(fact.prompt, fact.target) for fact in facts], on_conflict="supersede")
            edits = {edit.prompt: edit for edit in memory.list()}
            right = {one[1]: [edits[fact.prompt]] for fact, one in questions if fact.prompt in edits}
            name = "in_context" if method in ("prepend", "base") else method
            own: dict[str, Any] = {"target_weight": 0.0} if name == "in_context" else {}
            own |= {"weights": Path(folders[method])} if method in folders else {}
            adapter = create_adapter(name, base.model, base.tokenizer, **own)
            scope = OracleScope({} if method == "base" else right)
            model = EditableModel.wrap(base.model, base.tokenizer, memory, scope=scope, adapter=adapter)
            found: dict[str, list[bool]] = {}
            for start in range(0, len(questions), options.batch_size):
                part = [one for _, one in questions[start : start + options.batch_size]]
                answers = model.answer([text for _, text, _ in part], max_new_tokens=options.tokens, do_sample=False)
                for (kind, _, wanted), answer in zip(part, answers, strict=True):
                    found.setdefault(kind, []).append(is_prefix(answer.text, [wanted]))
        for kind, values in found.items():
            sys.stdout.write(json.dumps({"method": method, "asked": kind, **asdict(rate(values))}) + "\n")
            sys.stdout.flush()


def _questions(fact: Fact, unseen: str) -> list[Question]:
    """Return the fact's questions: itself, reworded, and one step further by relations that were trained on or not."""
    steps = [("unseen" if unseen in text.lower() else "step", text, answer) for text, answer in fact.hops]
    return [("verbatim", fact.prompt, fact.target), *[("wording", ask, fact.target) for ask in fact.asks], *steps]


if __name__ == "__main__":
    main()
