"""Find subject and value in a text with a small network on the sentence encoder's token vectors.

Every token is scored as outside, subject or value from its vector and those of its neighbours. The best run of whole
words is the subject, the best run of the others the value. The weights fit one encoder; with any other,
:func:`~memedit.index.subject_guess.guess_subject` has to do.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memedit.errors import ModelError
from memedit.index.function_words import MONTHS, WEEKDAYS
from memedit.types import Encoding, FloatArray, FloatMatrix

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the weights that ship with the package."""
WEIGHTS_FILE, DESCRIPTION_FILE = "subjects.safetensors", "subjects.json"
OUTSIDE, SUBJECT, VALUE = range(3)
Span = tuple[int, int]

_WORD = re.compile(r"[\w\u0300-\u036f\u0591-\u05c7\u064b-\u0670\u0900-\u0963\u0966-\u0dff]+")  # with vowel signs
_QUOTED = re.compile(
    r"\"[^\"]{2,300}\"|“[^”]{2,300}”|«[^»]{2,300}»|「[^」]{1,200}」|『[^』]{1,200}』|《[^》]{1,200}》|„[^“”]{2,300}[“”]"
)
# Scripts whose words are not set apart by spaces, or carry particles: each character is a unit.
_CHARACTERS = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff]"
)
_SCRIPTS = (
    re.compile(r"[\u0370-\u03ff]"),
    re.compile(r"[\u0400-\u052f]"),
    re.compile(r"[\u0590-\u08ff]"),
    re.compile(r"[\u0900-\u0dff]"),
    re.compile(r"[\u0e00-\u0eff]"),
    re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]"),
    re.compile(r"[\u1100-\u11ff\uac00-\ud7ff]"),
)
_POSSESSIVE = re.compile(r"['’]s?\Z", re.IGNORECASE)
_CAPITAL = re.compile(r" ([^\W\d_][\w-]+)")
_CUT_OFF = re.compile(r"['’]?s\s+")
"""The end of a possessive whose owner is no part of the name: "men's Kestrel Cup"."""
_ARTICLE = re.compile(r"(?:the|an?|der|die|das|den|dem|la|le|les|el|los|las|il|lo|gli|het|een) +(?=\S)")
_PREPOSITION = re.compile(r"(?:at|in|of|on|for|from|to|by|with|about) +(?=[A-Z0-9])")
_LOWER = re.compile(r"\s+[a-z]")
_JOINED = re.compile(r"[-‐‑_@.](?=\w)")
_NAMELESS = (
    "i me you he him she her it we us they them my your his its our their mine this that these those who whom whose "
    "what which when where why how there here user name the a an is are was were do does did of in on at"
)
_NEVER = frozenset(_NAMELESS.split())
_TIMES = "q1 q2 q3 q4 quarter year spring summer autumn winter today tomorrow"
_PERIODS = MONTHS | WEEKDAYS | set(_TIMES.split())
"""Words that say when, and name nothing by themselves."""
_EDGE = ' \t\r\n,;:"“”„«»「」『』《》?¿'
_LIMIT = 8.0
_DOUBT = 2.0
"""Where no part of a text is likelier a value than not, one with these log odds against it will do."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says: character spans of its subject and its value, None where it has none."""

    text: str
    subject_span: Span | None
    value_span: Span | None

    @property
    def subject(self) -> str | None:
        """What it is about, verbatim."""
        return None if self.subject_span is None else self.text[slice(*self.subject_span)]

    @property
    def value(self) -> str | None:
        """What is said of it, verbatim."""
        return None if self.value_span is None else self.text[slice(*self.value_span)]

    @property
    def relation(self) -> str:
        """The text without subject and value; a gap is an ellipsis."""
        spans = sorted(span for span in (self.subject_span, self.value_span) if span is not None)
        parts, at = [], 0
        for start, end in spans:
            parts.append(self.text[at:start].strip())
            at = end
        parts.append(self.text[at:].strip(" .\n"))
        return " … ".join(part for part in parts if part)


class SubjectTagger:
    """The network, evaluated in NumPy; safe to share between threads."""

    def __init__(self, weights: Mapping[str, FloatMatrix]) -> None:
        self._w = {name: np.asarray(array, dtype=np.float32) for name, array in weights.items()}

    def read(self, encoding: Encoding, target: str | None = None) -> Reading:
        """Return where subject and value stand. ``target`` is the answer, where known: it is not the subject."""
        text = encoding.text
        if not encoding.spans:
            return Reading(text, None, None)
        units, owner = _units(text, encoding.spans)
        odds = _odds(self.scores(encoding))
        counts = np.bincount(owner, minlength=len(units)).astype(np.float32)
        sums = np.stack([np.bincount(owner, odds[:, label], len(units)) for label in range(3)], 1)
        by_unit = (sums / counts[:, None]).astype(np.float32)
        about = by_unit[:, SUBJECT].copy()
        if target is not None:
            about[_standing(text, units, target)] = -_LIMIT
        subject = _best_run(text, units, about, _is_name)
        said = by_unit[:, VALUE].copy()
        if subject is not None:
            said[[i for i, (start, end) in enumerate(units) if start < subject[1] and end > subject[0]]] = -np.inf
        value = _best_run(text, units, said, _is_value) or _best_run(text, units, said + _DOUBT, _is_value)
        return Reading(text, subject, value)

    def scores(self, encoding: Encoding) -> FloatArray:
        """Logits ``[t, 3]`` of outside, subject and value for each token."""
        w = self._w
        x = np.concatenate([encoding.tokens, token_features(encoding.text, encoding.spans)], axis=1)
        h = np.maximum(x @ w["in.weight"].T + w["in.bias"], 0.0)
        h = h + h.mean(0, keepdims=True) @ w["context.weight"].T + w["context.bias"]
        for layer in ("first", "second"):
            h = h + np.maximum(_convolved(h, w[f"{layer}.weight"], w[f"{layer}.bias"]), 0.0)
        out: FloatArray = h @ w["out.weight"].T + w["out.bias"]
        return out


def _convolved(h: FloatArray, weight: FloatArray, bias: FloatArray) -> FloatArray:
    """One-dimensional convolution of ``h [t, c]`` with ``weight [c, c, k]``, zeros beyond the ends."""
    reach = weight.shape[2] // 2
    padded = np.pad(h, ((reach, reach), (0, 0)))
    out = bias + sum(padded[k : k + len(h)] @ weight[:, :, k].T for k in range(weight.shape[2]))
    return np.asarray(out, dtype=np.float32)


def _odds(logits: FloatArray) -> FloatArray:
    """Log odds ``[t, 3]`` of each label against the two others."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    p = shifted / shifted.sum(1, keepdims=True)
    odds: FloatArray = np.clip(np.log(p + 1e-9) - np.log(1.0 - p + 1e-9), -_LIMIT, _LIMIT)
    return odds


FEATURES = 27


def token_features(text: str, spans: tuple[Span, ...]) -> FloatArray:
    """What the encoder's vectors do not show, ``[t, FEATURES]``: case, digits, quotes, script, place."""
    words = [match.span() for match in _WORD.finditer(text)]
    quotes = [match.span() for match in _QUOTED.finditer(text)]
    capitals = sum(text[start].isupper() for start, _ in words)
    last = text.rstrip()[-1:]
    whole = (
        "?" in text or "？" in text,
        last in set(".!。"),
        text == text.lower(),
        text == text.upper(),
        capitals / max(1, len(words)),
        np.log1p(len(spans)) / 5.0,
    )
    out = np.zeros((len(spans), FEATURES), dtype=np.float32)
    at = 0
    for i, (start, end) in enumerate(spans):
        while at < len(words) - 1 and words[at][1] <= start:
            at += 1
        first, final = words[at] if words and words[at][0] <= start < words[at][1] else (start, end)
        word, before = text[first:final], text[:first].rstrip()[-1:]
        own = (
            word[:1].isupper(),
            len(word) > 1 and word.isupper(),
            any(c.isdigit() for c in word),
            not word[:1].isalnum(),
            any(a < start and end < b for a, b in quotes),
            first == start,
            final == end,
            start > 0 and text[start - 1].isspace(),
            text[end : end + 1] in {"'", "’"},
            text[end : end + 1] == ":",
            not before or before in ".!?。",
            i / len(spans),
            i == 0,
            i == len(spans) - 1,
        )
        out[i, : len(own)] = own
        out[i, 14:20] = whole
        for k, script in enumerate(_SCRIPTS):
            out[i, 20 + k] = script.match(text, start) is not None
    return out


def _units(text: str, spans: tuple[Span, ...]) -> tuple[list[Span], np.ndarray[Any, Any]]:
    """Whole words, and characters of scripts without them; and the unit of each token."""
    units: list[Span] = []
    owner = np.zeros(len(spans), dtype=np.int64)
    for i, (start, end) in enumerate(spans):
        if units and (start < units[-1][1] or _one_word(text, units[-1][1], start)):
            units[-1] = (units[-1][0], max(end, units[-1][1]))
        else:
            units.append((start, end))
        owner[i] = len(units) - 1
    return units, owner


def _one_word(text: str, end: int, start: int) -> bool:
    left, right = text[end - 1], text[start]
    together = end == start and _WORD.match(left) and _WORD.match(right)
    return bool(together) and not (_CHARACTERS.match(left) or _CHARACTERS.match(right))


def _standing(text: str, units: list[Span], target: str) -> list[int]:
    """The units inside an occurrence of the target."""
    wanted = target.strip().casefold()
    folded = text.casefold()
    if not wanted or len(folded) != len(text):
        return []
    places = [match.span() for match in re.finditer(re.escape(wanted), folded)]
    return [i for i, (start, end) in enumerate(units) if any(a <= start and end <= b for a, b in places)]


def _best_run(text: str, units: list[Span], scores: FloatArray, usable: Callable[[str], bool]) -> Span | None:
    """The run of units with the highest sum above 0 that ``usable`` accepts."""
    scores = scores.copy()
    while (run := _highest(scores)) is not None:
        span = _trimmed(text, units[run[0]][0], units[run[1] - 1][1])
        if span is not None and usable(text[slice(*span)]):
            return span
        scores[run[0] : run[1]] = -np.inf
    return None


def _highest(scores: FloatArray) -> Span | None:
    """Kadane's algorithm: start and end of the run with the highest positive sum."""
    best, found, total, start = 0.0, None, 0.0, 0
    for i, score in enumerate(scores):
        if total <= 0.0:
            total, start = 0.0, i
        total += float(score)
        if total > best:
            best, found = total, (start, i + 1)
    return found


def _trimmed(text: str, start: int, end: int) -> Span | None:
    """Whole names only: over hyphens and dots inside a word, up to a closing bracket, without marks at the ends."""
    while (joined := _JOINED.match(text, end)) is not None:
        word = _WORD.match(text, joined.end())
        end = word.end() if word else end + 1
    while _next_capital(text, start, end):
        end = _WORD.search(text, end).end()  # type: ignore[union-attr]
    if text.count("(", start, end) > text.count(")", start, end) and text[end : end + 1] == ")":
        end += 1
    while start < end and text[start] in _EDGE:
        start += 1
    if (tail := _CUT_OFF.match(text, start, end)) is not None:
        start = tail.end()
    if (preposition := _PREPOSITION.match(text, start, end)) is not None:
        start = preposition.end()
    if (article := _ARTICLE.match(text, start, end)) is not None:
        start = article.end()
    if (owner := _POSSESSIVE.search(text, start, end)) is not None and _LOWER.match(text, end):
        end = owner.start()
    while start < end and text[end - 1] in _EDGE:
        end -= 1
    return (start, end) if start < end else None


def _next_capital(text: str, start: int, end: int) -> bool:
    """Whether a name that ends in a capitalised word goes on in the next: "Lumen" in "at Lumen Labs"."""
    last = text[start:end].rsplit(maxsplit=1)
    following = _CAPITAL.match(text, end)
    return bool(last) and last[-1][:1].isupper() and following is not None and following.group(1)[0].isupper()


def _is_name(found: str) -> bool:
    """Neither a number nor a period nor words that name nothing."""
    words = [word.casefold() for word in _WORD.findall(found)]
    return any(c.isalpha() for c in found) and not all(
        word in _NEVER or word in _PERIODS or word.isdigit() for word in words
    )


def _is_value(found: str) -> bool:
    return any(c.isalnum() for c in found)


def load_tagger(folder: Path) -> tuple[SubjectTagger, dict[str, Any]]:
    """Load weights and their description.

    Raises:
        ModelError: a file is missing or damaged.
    """
    from safetensors.numpy import load_file

    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_text("utf-8"))
        weights = load_file(folder / WEIGHTS_FILE)
    except Exception as error:  # damaged files surface as many kinds of error
        raise ModelError(f"subject tagger {folder} cannot be loaded: {type(error).__name__}: {error}") from error
    return SubjectTagger(weights), description


@functools.lru_cache(maxsize=4)
def tagger_for(encoder_fingerprint: str, folder: Path = WEIGHTS) -> SubjectTagger | None:
    """Return the shipped tagger when it was trained on this encoder, else None."""
    if not (folder / DESCRIPTION_FILE).is_file():
        return None
    tagger, description = load_tagger(folder)
    return tagger if description.get("encoder") == encoder_fingerprint else None
