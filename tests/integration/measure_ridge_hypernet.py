"""Measure what one ridge solve writes: UltraEdit's form beside networks that were trained for a solve, or not.

Run from the repository: ``OMP_NUM_THREADS=1 python tests/integration/measure_ridge_hypernet.py counterfact_train.jsonl
--text wikitext2_valid.txt --edits 100 --network trained=runs/rledit --network identity=runs/identity``. The last rows
of the file are solved for at once. ``exact`` and ``rephrase``: every token of the target is the likeliest behind those
before it; ``kept``: the likeliest next token behind an unrelated prompt is the base's. What lies below the edited
layers runs once for all methods.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from memedit.consolidation import (
    ConsolidationSettings,
    EditRequest,
    applied,
    build_statistics,
    compute_artefacts,
    solve,
)
from memedit.consolidation.rows import target_ids
from memedit.evaluation.metrics.statistics import mcnemar, rate
from memedit.models import load_model
from memedit.models.row_groups import bucket_by_length
from memedit.models.segments import Inputs, Segments
from memedit.models.token_rows import query_ids
from memedit.training.hypernet.lessons import Text, padded

_WINDOW = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--network", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--model", default="smollm2")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.file.read_text(encoding="utf-8").splitlines()]
    rows = list({row["prompt"]: row for row in rows}.values())[-options.edits :]
    loaded, text = load_model(options.model), options.text.read_text(encoding="utf-8")
    plain = replace(ConsolidationSettings(), maker="gradient", contexts=1)
    ways = {f"ultraedit, {n} round(s)": ("ultraedit", replace(plain, gradient_rounds=n)) for n in options.rounds}
    for name, folder in (item.split("=", 1) for item in options.network):
        ways[name] = ("rledit", replace(plain, maker="hypernet", network=folder))
    requests = [EditRequest(f"{i:05d}", row["prompt"], row["target_new"], row["subject"]) for i, row in enumerate(rows)]
    statistics = build_statistics(loaded, plain, [text[len(text) // 2 :]], tokens=options.tokens)
    asked = Asked(loaded, requests, rows, text, options.tokens, first=min(statistics.layers))
    say({"method": "base", **asked.figures()})
    seen: dict[str, list[bool]] = {}
    for name, (method, settings) in ways.items():
        artefacts = compute_artefacts(loaded, requests, settings)
        delta = solve(loaded, artefacts, statistics, settings, method, requests=requests)
        with applied(loaded, delta):
            found = asked.figures()
        say({"method": name, "edits": len(requests), **found})
        for kind, right in asked.last.items():
            if kind in seen:
                say({"method": name, "asked": kind, "against": next(iter(ways)), **asdict(mcnemar(seen[kind], right))})
            else:
                seen[kind] = right


def say(found: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(found, default=asdict) + "\n")
    sys.stdout.flush()


class Asked:
    """Questions with all that lies below layer ``first`` computed."""

    def __init__(
        self, loaded: Any, requests: Sequence[EditRequest], rows: Sequence[Any], text: str, tokens: int, *, first: int
    ) -> None:
        self.segments, self.first, tokenizer = Segments(loaded.model), first, loaded.tokenizer
        self.last: dict[str, list[bool]] = {}
        wanted = [tuple(target_ids(tokenizer, request)) for request in requests]
        self.texts = {
            kind: self._fed(
                [self._query(tokenizer, row[field], target) for row, target in zip(rows, wanted, strict=True)]
            )
            for kind, field in (("exact", "prompt"), ("rephrase", "rephrase_prompt"))
        }
        ids = tokenizer(text[: tokens * 6])["input_ids"][:tokens]
        windows = [tuple(ids[at : at + _WINDOW]) for at in range(0, len(ids) - _WINDOW + 1, _WINDOW)]
        self.windows = self._fed([Text(window[:1], window[1:]) for window in windows])
        unrelated = self._fed([self._query(tokenizer, row["locality_prompt"], (0,)) for row in rows])
        tops = self._logits(unrelated)
        self.texts["kept"] = [
            replace(one, answer=(int(top.argmax()),)) for one, top in zip(unrelated, tops, strict=True)
        ]

    @staticmethod
    def _query(tokenizer: Any, query: str, target: tuple[int, ...]) -> Text:
        return Text(tuple(query_ids(tokenizer, query, chat=False)), target)

    @torch.no_grad()
    def _fed(self, texts: Sequence[Text]) -> list[Text]:
        found: dict[int, Text] = {}
        for group in bucket_by_length([_Numbered(i, one) for i, one in enumerate(texts)], tokens=512):
            inputs = Inputs.of([one.text.fed for one in group], self.segments.model.device)
            hidden, _ = self.segments.hidden(inputs, last=self.first - 1)
            found |= {one.i: replace(one.text, hidden=hidden[n, : len(one)].clone()) for n, one in enumerate(group)}
        return [found[i] for i in range(len(texts))]

    @torch.no_grad()
    def _logits(self, texts: Sequence[Text]) -> list[torch.Tensor]:
        """Return logits ``[answer, v]`` of each text's answer tokens."""
        found: dict[int, torch.Tensor] = {}
        for group in bucket_by_length([_Numbered(i, one) for i, one in enumerate(texts)], tokens=512):
            inputs = Inputs.of([one.text.fed for one in group], self.segments.model.device)
            places = [
                (n, len(one.text.query) - 1 + i) for n, one in enumerate(group) for i in range(len(one.text.answer))
            ]
            where = tuple(torch.tensor(column) for column in zip(*places, strict=True))
            start = padded([one.text for one in group])
            logits = self.segments.logits(inputs, where, first=self.first, start=start).float()  # type: ignore[arg-type]
            parts = torch.split(logits, [len(one.text.answer) for one in group])
            found |= {one.i: part for one, part in zip(group, parts, strict=True)}
        return [found[i] for i in range(len(texts))]

    def figures(self) -> dict[str, Any]:
        self.last = {kind: self._right(texts) for kind, texts in self.texts.items()}
        found: dict[str, Any] = {kind: asdict(rate(right)) for kind, right in self.last.items()}
        losses = [
            float(torch.nn.functional.cross_entropy(self._logits([one])[0], torch.tensor(one.answer)))
            for one in self.windows  # one by one: all their logits would be most of a gigabyte
        ]
        return {**found, "perplexity": round(math.exp(sum(losses) / len(losses)), 3)}

    def _right(self, texts: Sequence[Text]) -> list[bool]:
        pairs = zip(texts, self._logits(texts), strict=True)
        return [logits.argmax(-1).tolist() == list(text.answer) for text, logits in pairs]


class _Numbered:
    def __init__(self, i: int, text: Text) -> None:
        self.i, self.text = i, text

    def __len__(self) -> int:
        return len(self.text)


if __name__ == "__main__":
    main()
