"""Compare the packaged sentence encoders: time, and questions in one language about edits in another.

Run from the repository, for times: ``OMP_NUM_THREADS=1 python tests/integration/measure_encoders.py``; for languages
the same with ``languages_*.jsonl``, whose lines are kinds of subject with ``subjects`` (their names in other scripts
under ``local``) and ``relations``, each with wordings by language. Times are processor seconds, so that other work on
the machine weighs less; the encoders take turns.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from memedit.encoders import ENCODER_ALIASES, find_encoder, load_encoder
from memedit.encoders.packaged_e5 import convert
from memedit.encoders.sentence import SentenceEncoder

NAMES = ("minilm", "multilingual")
QUERY = "Who is the present director of the city museum of Oslo?"
ROUNDS = 60
Question = tuple[str, int, int, str]
"""Language, number of the kind of subject, number of the relation, text."""


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every N-th kind of subject")
    parser.add_argument("--wordings", type=int, default=2, help="ask each relation in the first N wordings")
    wanted = parser.parse_args()
    if wanted.files:
        lines = [line for file in wanted.files for line in file.read_text("utf-8").splitlines() if line.strip()]
        kinds = [json.loads(line) for line in lines[:: wanted.every]]
        encoders = [load_encoder(name) for name in NAMES]
        for masked, encoder in ((masked, encoder) for masked in (False, True) for encoder in encoders):
            measure_languages(encoder, kinds, wanted.wordings, masked=masked)
        return
    measure_conversion()
    measure_queries([measure_load(name) for name in NAMES])


def measure_conversion() -> None:
    parts = ENCODER_ALIASES["multilingual"].installed_files()
    if parts is None:
        sys.exit(f"the multilingual encoder is not installed: {ENCODER_ALIASES['multilingual'].install}")
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        convert(*parts, Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        say(f"conversion: {time.process_time() - began:.1f} s of processor time, {size / 1e6:.0f} MB")


def measure_load(name: str) -> SentenceEncoder:
    find_encoder(name)
    load_encoder("minilm")  # brings the libraries, which are not the encoder's own
    began = time.process_time()
    encoder = load_encoder(name)
    loaded = time.process_time()
    assert encoder.fingerprint
    say(f"{name}: loads in {loaded - began:.2f} s, fingerprint {time.process_time() - loaded:.2f} s")
    return encoder


def measure_queries(encoders: list[SentenceEncoder]) -> None:
    found = np.zeros((ROUNDS, len(encoders)))
    for number in range(-5, ROUNDS):
        for column, encoder in enumerate(encoders):
            began = time.process_time()
            encoder.encode([QUERY])
            found[number, column] = 1e3 * (time.process_time() - began)
    middle = np.median(found, axis=0)
    ratios = np.median(found[:, 1:] / found[:, :1], axis=0)
    for encoder, one in zip(encoders, middle, strict=True):
        tokens = len(encoder.encode_tokens([QUERY])[0].spans)
        say(f"{encoder.name}: {one:.1f} ms a query of {tokens} tokens (median of {ROUNDS})")
    say(f"ratio: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


def measure_languages(encoder: SentenceEncoder, kinds: list[dict], wordings: int, *, masked: bool) -> None:
    stored, asked = questions(kinds, wordings, masked=masked)
    vectors = dict(zip([one[1:3] for one in stored], encoder.encode([one[3] for one in stored]), strict=True))
    right: dict[str, list[bool]] = defaultdict(list)
    for (language, kind, relation, _), vector in zip(asked, encoder.encode([one[3] for one in asked]), strict=True):
        choices = range(len(kinds[kind]["relations"]))
        best = max(choices, key=lambda choice: float(vectors[kind, choice] @ vector))
        right[language].append(best == relation)
    everything = [hit for language, hits in right.items() if language != "en" for hit in hits]
    say(f"{encoder.name}, subject {'masked' if masked else 'named'}: top-1 of the relations of one subject, in percent")
    say(f"  all but English {100 * np.mean(everything):.1f} (n = {len(everything)})")
    say("  " + ", ".join(f"{key} {100 * np.mean(hits):.1f} ({len(hits)})" for key, hits in sorted(right.items())))


def questions(kinds: list[dict], count: int, *, masked: bool) -> tuple[list[Question], list[Question]]:
    """Return what is stored (each relation's first English question) and what is asked (all others)."""
    stored: list[Question] = []
    asked: list[Question] = []
    for number, kind in enumerate(kinds):
        for place, relation in enumerate(kind["relations"]):
            for language, wordings in relation["text"].items():
                name = "X" if masked else kind.get("local", {}).get(language, kind["subjects"])[0]
                texts = [(language, number, place, text.replace("{s}", name)) for text in wordings["questions"]]
                stored += texts[:1] if language == "en" else []
                asked += texts[1:] if language == "en" else texts[:count]
    return stored, asked


if __name__ == "__main__":
    main()
