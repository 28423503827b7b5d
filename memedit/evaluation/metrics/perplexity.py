"""Perplexity of a text, in strides."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from memedit.errors import DatasetError, InputError
from memedit.evaluation.answering import Answerer, Scoring
from memedit.evaluation.metrics.statistics import Estimate, mean
from memedit.evaluation.requests import ScoreRequest

STRIDE_WORDS = 128
CONTEXT_WORDS = 256
_PIECE = re.compile(r"\s*\S+")


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        DatasetError: it is absent, blank, or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot be read as UTF-8 text: {error}", path=path.name) from error
    if not text.strip():
        raise DatasetError("the file holds no text", path=path.name)
    return text


def perplexity_requests(text: str, answerer: Answerer, *, tokens: int) -> list[ScoreRequest]:
    """Split a text into windows of ``STRIDE_WORDS`` words to score, each behind the ``CONTEXT_WORDS`` before it.

    Windows break at white space, where tokenizers break too, so each token is scored once and as it is in the
    running text. The first words of the text are context only. Windows are taken until ``tokens`` tokens are scored.

    Raises:
        InputError: the text is too short to score anything.
    """
    pieces = [match.group() for match in _PIECE.finditer(text)]
    requests: list[ScoreRequest] = []
    scored, start = 0, min(STRIDE_WORDS, len(pieces) // 2)
    while start < len(pieces) and scored < tokens and start > 0:
        context = "".join(pieces[max(0, start - CONTEXT_WORDS) : start]).lstrip()
        target = "".join(pieces[start : start + STRIDE_WORDS])
        requests.append(ScoreRequest(context, target))
        scored += answerer.count_tokens([target])[0]
        start += STRIDE_WORDS
    if not requests:
        raise InputError("the perplexity text needs at least two words")
    return requests


def perplexity(scorings: Sequence[Scoring], *, seed: int) -> Estimate:
    """Return ``exp`` of the mean negative log-likelihood of a token; n counts tokens, windows are resampled.

    Comparable only between models with the same tokenizer.
    """
    weights = [float(len(s.logprobs)) for s in scorings]
    losses = [-sum(s.logprobs) / max(1, len(s.logprobs)) for s in scorings]
    loss = mean(losses, seed=seed, weights=weights)
    return Estimate(math.exp(loss.value), int(sum(weights)), math.exp(loss.ci_low), math.exp(loss.ci_high))
