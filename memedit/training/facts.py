"""Facts a reader learns from: edits with the questions they answer, those they help to answer, and those they do not.

Reads the published records of the usual editing data sets by their fields, and plain text (``.txt``) for long
passages and surrounding prose.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError, unread
from memedit.evaluation.datasets.splits import is_training_row

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Fact:
    """An edit and what is known about questions near it.

    ``asks`` are other wordings whose answer is ``target``; ``hops`` questions that need the edit as one step, with
    their answers; ``off_topic`` questions on which the edit has no bearing; ``companions`` further edits, as
    (prompt, target), that the hops need as well. ``source`` names the file it came from.
    """

    prompt: str
    target: str
    asks: tuple[str, ...] = ()
    hops: tuple[Pair, ...] = ()
    off_topic: tuple[str, ...] = ()
    companions: tuple[Pair, ...] = ()
    source: str = ""


def read_facts(path: Path) -> list[Fact]:
    """Read one file of records (``.jsonl``), whose format is told by its fields.

    Raises:
        DatasetError: a line is not JSON, or its fields are those of no known format.
    """
    facts: list[Fact] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DatasetError(f"not JSON: {error}", path=str(path), line=number) from error
            try:
                facts.extend(_facts_of(record, path.name))
            except (KeyError, TypeError, AttributeError) as error:
                raise DatasetError(
                    f"fields {sorted(record) if isinstance(record, dict) else type(record).__name__} fit no known "
                    f"format of edits: {unread(error)}; use prompt and target, with rephrase_prompt if there is one",
                    path=str(path),
                    line=number,
                ) from error
    return facts


def _facts_of(record: Mapping[str, Any], source: str) -> Iterator[Fact]:
    if "requested_rewrite" in record:
        yield from _chain(record, source)
    elif "src" in record:
        yield Fact(
            record["src"], record["alt"].strip(), _texts(record.get("rephrase")), (), _texts(record.get("loc")),
            source=source,
        )  # fmt: skip
    elif "question" in record:
        yield Fact(record["question"], record["answer"].strip(), _texts(record.get("para_question")), source=source)
    else:
        yield _record(record, source)


def _record(record: Mapping[str, Any], source: str) -> Fact:
    """Return the fact of a prompt/target record: CounterFact, WikiBigEdit, KnowEdit, QAEdit or the plain form."""
    target = str(record["target_new"] if "target_new" in record else record["target"]).strip()
    asks = [*_texts(record.get("rephrase_prompt", record.get("rephrase")))]
    hops: list[Pair] = []
    for kind, items in record.get("portability", {}).items():
        for item in items:
            answers = list(_flat(item["ground_truth"]))
            if kind == "Subject_Aliasing":
                asks.append(item["prompt"])
            elif answers:
                hops.append((item["prompt"], target if target in answers else answers[0]))
    off_topic = [*_texts(record.get("locality_prompt"))]
    locality = record.get("locality", ())
    if isinstance(locality, Mapping):
        off_topic += [item["prompt"] for items in locality.values() for item in items]
    else:
        off_topic += [item["loc"] for item in locality]
    return Fact(record["prompt"], target, tuple(asks), tuple(hops), tuple(off_topic), source=source)


def _chain(record: Mapping[str, Any], source: str) -> Iterator[Fact]:
    """Return the facts of a MQuAKE record: its first edit carries the multi-hop questions, which need them all."""
    pairs = [
        (r["prompt"].format(r["subject"]), r["target_new"]["str"].strip(), r["question"])
        for r in record["requested_rewrite"]
    ]
    hops = tuple((question.strip(), record["new_answer"]) for question in record["questions"])
    for number, (prompt, target, question) in enumerate(pairs):
        others = tuple((p, t) for p, t, _ in pairs[:number] + pairs[number + 1 :])
        yield Fact(prompt, target, (question,), hops if number == 0 else (), companions=others, source=source)


def _texts(value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    values = [value] if isinstance(value, str) else value
    return tuple(re.sub(r"^nq question: ", "", str(text)) for text in values)


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Sequence):
        for item in value:
            yield from _flat(item)


@dataclass(frozen=True, slots=True)
class Prose:
    """Plain text cut up for use: ``passages`` are facts with long targets, ``sentences`` surrounding prose."""

    passages: tuple[Fact, ...] = ()
    sentences: tuple[str, ...] = ()


def read_prose(path: Path, *, words: tuple[int, int] = (40, 160)) -> Prose:
    """Read running text, one paragraph a line, with WikiText's ``= headings =`` where it has them.

    Every paragraph of ``words`` length becomes a long-form fact asked for by its heading and first words; sentences
    of 5-25 words are kept as prose to stand before a question.
    """
    passages: list[Fact] = []
    sentences: list[str] = []
    heading = path.stem
    for line in path.read_text(encoding="utf-8").splitlines():
        text = _plain(line)
        title = re.fullmatch(r"(?:=\s*)+(.+?)(?:\s*=)+", text)
        if title:
            heading = title.group(1)
            continue
        parts = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)
        sentences += [part for part in parts if 5 <= len(part.split()) <= 25 and part[-1:] in ".!?"]
        if words[0] <= len(text.split()) <= words[1]:
            start = " ".join(text.split()[:4])
            passages.append(
                Fact(
                    f'What does the article on {heading} say after "{start}"?',
                    text,
                    (f'Tell me what is written about {heading}, beginning with "{start}".',),
                    source=path.name,
                )
            )
    return Prose(tuple(passages), tuple(sentences))


def _plain(line: str) -> str:
    """Undo WikiText's tokenisation."""
    text = " ".join(re.sub(r"\(\s*\)", "", line.replace("<unk>", "")).split())
    text = re.sub(r"\s@([-,.])@\s", r"\1", text)
    text = re.sub(r"\s+([,.;:!?%)\]])", r"\1", text)
    text = re.sub(r"([(\[])\s+", r"\1", text)
    text = re.sub(r"\s'(s|t|re|ve|ll|d|m)\b", r"'\1", text)
    return re.sub(r'" (.*?) "', r'"\1"', text)


def load_facts(halves: Sequence[Path | str], *, whole: Sequence[Path | str] = ()) -> list[Fact]:
    """Read record files: the training half of ``halves``, every row of ``whole``.

    A path may end in ``:N``: only the first N rows of the file are read.

    Raises:
        DatasetError: a file does not exist or cannot be read, or there is nothing to train on.
    """
    facts = [fact for item in halves for fact in _rows(item) if is_training_row(fact.prompt)]
    facts += [fact for item in whole for fact in _rows(item)]
    if not facts:
        names = ", ".join(str(item) for item in [*halves, *whole]) or "(no files)"
        raise DatasetError("no rows to train on", path=names)
    return facts


def _rows(item: Path | str) -> list[Fact]:
    head, _, count = str(item).rpartition(":")
    path, limit = (Path(head), int(count)) if head and count.isdigit() else (Path(item), None)
    if not path.is_file():
        raise DatasetError("no such file; give record files (.jsonl)", path=str(path))
    return read_facts(path)[:limit]
