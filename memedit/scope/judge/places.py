"""Where an edit's subject stands in a text, and the text with the subject masked."""

import functools
import re
import unicodedata
from collections.abc import Callable, Container, Sequence
from itertools import pairwise

from memedit.index.function_words import ARTICLES, FUNCTION_WORDS, MONTHS, WEEKDAYS
from memedit.index.subjects import SubjectIndex
from memedit.index.words import Word, folded_words, words
from memedit.scope.judge.network import MASK
from memedit.scope.talk import turns_of
from memedit.types import Edit

Span = tuple[int, int]
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\s*\n\s*")
_FOCUS_WORDS = 48
_TARGET_CHARS = 160
_TURNS, _TURN_WORDS = 4, 28
_PRONOUNS = re.compile(
    r"\b(?:it|they|them|he|she|him|that one|this one|there|er|sie|es|il|elle|lui|ella|lei|hij|zij)\b", re.IGNORECASE
)
_OWNERS = re.compile(r"\b(?:its|their|his|her|sein|seine|ihr|ihre|son|sa|ses|su|sus|suo|sua)\b", re.IGNORECASE)
BETWEEN_TURNS = " || "
"""What stands between the turns of a talk in the text that the network reads."""
_TYPO_LETTERS = 6
_COUNTED = (
    re.compile(r"\b(?:1[5-9]|20)\d\d\b"),
    re.compile(r"\bQ[1-4]\b", re.IGNORECASE),
    re.compile(r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)day", re.IGNORECASE),
    re.compile(r"\b\d+\.\d+(?:\.\d+)*\b"),
)
"""Years, quarters, weekdays, versions: texts that differ in one of these ask of different times or things."""
_PASSED = ARTICLES | {"of", "my", "our", "your", "his", "her", "their", "this", "that"}
"""Words before or behind a name that are looked past."""
_GIVEN_NAMES = 3
_CONSONANTS = re.compile(r"[^\W\d_aeiouy]+")
_JOINED_BEHIND = re.compile(r"[-_](?!based|like|style|related|owned|made|wide|born)\w")
_JOINED_BEFORE = re.compile(r"\w[-_]\Z")
_NAME_BEHIND = re.compile(r" ([A-Z][\w]*|\d+)\b")
_YES_OR_NO = re.compile(
    r"(?:\A|[.,:;!?]\s*)(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should)(?:n['’]?t)?\b",
    re.IGNORECASE,
)
_NAME_BEFORE = re.compile(r"[\w,] ([A-Z]\w+) \Z")  # not at the front of a sentence
_ROMAN = re.compile(r"[IVX]+")
_RULER_BEFORE = re.compile(r"\b([A-Z]\w+) [IVX]+ of \Z")
_MOSTLY = 0.6
PARTLY = 0.25
"""A subject of which this share of letters stands in a query may be meant."""


def places(subject: str, text: str) -> list[Span]:
    """Return where the subject stands, but for case, diacritics, punctuation and a possessive."""
    finder = SubjectIndex()
    finder.add(0, subject)
    spans: list[Span] = []
    for match in finder.find(text):
        if not spans or match.start >= spans[-1][1]:
            spans.append((match.start, match.end))
    return spans


def mask(text: str, spans: Sequence[Span]) -> str:
    """Return the text with the spans masked."""
    parts, at = [], 0
    for start, end in sorted(spans):
        if start >= at:
            parts += [text[at:start], MASK]
            at = end
    return "".join([*parts, text[at:]])


@functools.lru_cache(maxsize=4096)
def masked(text: str, subject: str | None) -> str:
    """Return the text with its subject masked where it stands."""
    return mask(text, places(subject, text)) if subject else text


def focused(text: str) -> str:
    """Cut a long text with a masked subject down to the subject's sentence and what stands around it."""
    if len(text.split()) <= _FOCUS_WORDS:
        return text
    sentences = [part for part in _SENTENCE.split(text) if part.strip()]
    at = next((i for i, part in enumerate(sentences) if MASK in part), len(sentences) - 1)
    first = last = at
    size = len(sentences[at].split())
    while size < _FOCUS_WORDS and (last + 1 < len(sentences) or first > 0):
        step = last + 1 if last + 1 < len(sentences) else first - 1
        size += len(sentences[step].split())
        if size > _FOCUS_WORDS:
            break
        first, last = min(first, step), max(last, step)
    return " ".join(sentences[first : last + 1])


def told(text: str, subject: str) -> str | None:
    """Return a talk with its subject masked, as the network reads it; None where no earlier turn names the subject.

    The last turns are kept, with the latest one that names the subject; long ones are cut to what stands around it.
    """
    turns = [_masked_or_mostly(turn, subject) for turn in turns_of(text)]
    naming = [i for i, turn in enumerate(turns[:-1]) if MASK in turn]
    if not naming:
        return None
    kept = [i for i in range(len(turns) - 1) if i == naming[-1] or i >= len(turns) - 1 - _TURNS]
    return BETWEEN_TURNS.join([*(_short(turns[i]) for i in kept), focused(turns[-1])])


def referring(text: str) -> str:
    """Return the last turn of a talk, as the network reads it, what refers back masked: pronouns, else the front."""
    last = text.rsplit(BETWEEN_TURNS, 1)[-1]
    if MASK in last:
        return last
    hidden = _OWNERS.sub(f"{MASK}'s", _PRONOUNS.sub(MASK, last))
    return hidden if hidden != last else f"{MASK}: {last}"


def turns_ago(text: str) -> int:
    """Return how many turns before the last of a talk, as the network reads it, its subject was named last."""
    turns = text.split(BETWEEN_TURNS)
    return next((ago for ago, turn in enumerate(reversed(turns)) if MASK in turn), len(turns))


def _masked_or_mostly(turn: str, subject: str) -> str:
    """Return a turn with the subject masked; where it does not stand there in full, most of it will do."""
    hidden = masked(turn, subject)
    if hidden != turn or not subject:
        return hidden
    share, partly = partly_named(subject, words(turn), turn)
    return partly if share >= _MOSTLY else turn


def _short(turn: str) -> str:
    words = turn.split()
    if len(words) <= _TURN_WORDS:
        return turn
    at = next((i for i, word in enumerate(words) if MASK in word), len(words) - 1)
    begin = max(0, min(at - _TURN_WORDS // 2, len(words) - _TURN_WORDS))
    return " ".join(words[begin : begin + _TURN_WORDS])


def edit_texts(edit: Edit) -> tuple[str, ...]:
    """Return the texts of an edit with the subject masked: its prompt, then its paraphrases."""
    return tuple(masked(text, edit.subject) for text in (edit.prompt, *edit.paraphrases))


def block_texts(edit: Edit) -> tuple[str, ...]:
    """Return the texts on which an edit must stay silent, with the subject masked where it stands."""
    return tuple(masked(text, edit.subject) for text in edit.blocks)


def with_target(text: str, edit: Edit) -> str:
    """Return a text of an edit with its target behind it, unless the text holds it."""
    return with_value(text, " ".join(edit.target[:_TARGET_CHARS].split()))


def with_value(text: str, value: str) -> str:
    """Return a text with a value behind it, unless the text holds it but for case."""
    return text if value.casefold() in text.casefold() else f"{text} {value}"


def partly_named(subject: str, found: Sequence[Word], text: str) -> tuple[float, str]:
    """Return the share of the subject's letters that stand in a query, but for typing errors, and the query with that
    part masked.

    Args:
        subject: of an edit.
        found: the query's words.
        text: the query.
    """
    own = [word for word in folded_words(subject) if word not in FUNCTION_WORDS] or folded_words(subject)
    total = sum(len(word) for word in own)
    hits = [word for word in found if any(alike(word.folded, other) for other in own)]
    present = sum(len(other) for other in own if any(alike(word.folded, other) for word in hits))
    if not hits or not total:
        return 0.0, text
    runs: list[Span] = []
    for word in hits:
        if runs and not text[runs[-1][1] : word.start].strip(" -.,'’/&"):
            runs[-1] = (runs[-1][0], word.end)
        else:
            runs.append((word.start, word.end))
    longest = max(runs, key=lambda span: span[1] - span[0])
    return present / total, mask(text, [longest])


def named_outright(
    subject: str, prompt: str, found: Sequence[Word], text: str, rare: Callable[[str], bool]
) -> tuple[Span, str] | None:
    """Return where a query names a subject that it does not hold as stored, and the query with that masked.

    It does where all words of the subject stand together, in any order; or where its rare words do ("tarpley" of
    "tarpley library") and no word that may belong to another name stands in the place of those left out. Typing errors
    are let pass, but for one letter in another's place: that makes another name.

    Args:
        subject: of an edit.
        prompt: of the edit; its words tell what is asked and belong to no name.
        found: the query's words.
        text: the query.
        rare: says of a folded word that it is no common one.
    """
    own = [word.folded for word in words(subject) if _tells(subject, word)]
    hits = [i for i, word in enumerate(found) if _tells(text, word) and _among(word.folded, own)]
    if not hits:
        return None
    first, last = hits[0], hits[-1]
    inner = [word.folded for word in found[first : last + 1]]
    if not any(_is_mistyped(word, other) for word in inner for other in own):
        return None  # consonants alone name nothing: "Mr" is not "Munsters"
    missing = [word for word in own if not any(_is_typed(other, word) for other in inner)]
    if any(word not in FUNCTION_WORDS and not _among(word, own) for word in inner):
        return None
    sure = [word for word in own if word in inner or not missing]  # a part of a name has to be spelt right
    if any(rare(word) for word in missing) or not any(rare(word) for word in sure):
        return None
    if missing and not all(_asks(found, at, step, prompt, text) for at, step in _beside(own, missing, first, last)):
        return None
    span = (found[first].start, found[last].end)
    return span, mask(text, [span])


def _tells(text: str, word: Word) -> bool:
    """Say whether a word of a text may tell one name from another: "A" does in "Alpha Centauri A"."""
    return word.folded not in FUNCTION_WORDS or (word.start > 0 and text[word.start].isupper() and word.folded != "i")


def _beside(own: Sequence[str], missing: Sequence[str], first: int, last: int) -> list[tuple[int, int]]:
    """Return where in the query the words left out would stand, and which way from the others."""
    kept = [i for i, word in enumerate(own) if word not in missing]
    gone = [i for i, word in enumerate(own) if word in missing]
    sides = ((first - 1, -1, min(gone) < kept[0]), (last + 1, 1, max(gone) > kept[-1]))
    return [(at, step) for at, step, there in sides if there]


def _asks(found: Sequence[Word], at: int, step: int, prompt: str, text: str) -> bool:
    """Say whether the query's next word, but for articles and "of", belongs to what is asked, and to no name."""
    while 0 <= at < len(found) and found[at].folded in _PASSED:
        at += step
    if not 0 <= at < len(found):
        return True
    word = found[at].folded
    return not _tells(text, found[at]) or any(alike(word, other) for other in folded_words(prompt))


def _among(word: str, own: Sequence[str]) -> bool:
    return any(_is_typed(word, other) for other in own)


def _is_mistyped(word: str, other: str) -> bool:
    """Say whether a word is another one, or that with a letter left out, doubled or swapped."""
    return word == other or (alike(word, other) and (len(word) != len(other) or sorted(word) == sorted(other)))


def _is_typed(word: str, other: str) -> bool:
    """Say whether a word is another one, that mistyped, or its consonants."""
    if _is_mistyped(word, other):
        return True
    short = 1 < len(word) < len(other) and word[0] == other[0] and _CONSONANTS.fullmatch(word) is not None
    return short and _within(word, other)


def _within(word: str, other: str) -> bool:
    """Say whether the letters of a word stand in another in this order."""
    rest = iter(other)
    return all(letter in rest for letter in word)


def within_longer_name(text: str, found: Sequence[Word], spans: Sequence[Span], prompt: str) -> bool:
    """Say whether a subject stands in a text only as a part of what may be a longer name: "Luna II", "log_level_file".

    Words that the edit's prompt holds make no other name, and where all words have capitals these say nothing.

    Args:
        text: the query.
        found: its words.
        spans: where the subject stands.
        prompt: of the edit.
    """
    plain = sum(text[word.start].isupper() for word in found) < len(found) - 1
    known = {*folded_words(prompt), *FUNCTION_WORDS}
    return bool(spans) and all(_grows(text, span, known, plain) for span in spans)


def _grows(text: str, span: Span, known: Container[str], plain: bool) -> bool:
    start, end = span
    if _JOINED_BEHIND.match(text, end) or _JOINED_BEFORE.search(text[:start]):
        return True
    claimed = _YES_OR_NO.search(text[:start]) is not None  # what follows may be the value: "Is Luna Persian?"
    behind = None if claimed else _NAME_BEHIND.match(text, end)
    before = (pattern.search(text[:start]) for pattern in (_NAME_BEFORE, _RULER_BEFORE))
    found = [match.group(1) for match in (behind, *before) if match is not None]
    return plain and any(folded not in known for word in found for folded in folded_words(word))


def renamed(subject: str, found: Sequence[Word], text: str) -> bool:
    """Say whether a query that holds a part of a subject has another name in the place of the rest.

    "Ferrowing Atlantic flights" is not "Ferrowing regional flights": beside the part stands a word with a capital or a
    digit that is no word of the subject, where the subject has another word. "Joe Gaspar" may be "Joseph A. Gaspar":
    a word, or one beside it, begins like the one that is left out. "Clement" is not "Clement X".
    """
    own = folded_words(subject)
    hits = [i for i, word in enumerate(found) if any(alike(word.folded, other) for other in own)]
    present = {other for other in own if any(alike(found[i].folded, other) for i in hits)}
    if not hits or len(present) == len(set(own)):
        return False
    if any(number.lower() not in present and before in present for before, number in _numbered(subject)):
        return True
    for i in hits:
        place = next(k for k, other in enumerate(own) if alike(found[i].folded, other))
        for step in (-1, 1):
            beside, missing = i + step, place + step
            stands = 0 <= beside < len(found) and found[beside].start > 0  # a capital at the front says nothing
            absent = 0 <= missing < len(own) and own[missing] not in present
            another = stands and absent and _another_name(found[beside], found[i], own, text)
            if another and not _begins_like(own[missing], found[beside::step][:_GIVEN_NAMES], text):
                return True
    return False


def _numbered(subject: str) -> list[tuple[str, str]]:
    """Return the words of a name that a Roman number follows, folded, and that number."""
    found = words(subject)
    pairs = ((before, subject[word.start : word.end]) for before, word in pairwise(found))
    return [(before.folded, number) for before, number in pairs if _ROMAN.fullmatch(number)]


def _begins_like(left_out: str, beside: Sequence[Word], text: str) -> bool:
    """Say whether one of the names in a row begins with the letter of a word without digits."""
    for word in beside:
        if not _looks_like_name(text[word.start : word.end]):
            return False
        if word.folded.isalpha() and left_out.isalpha() and word.folded[0] == left_out[0]:
            return True
    return False


def _another_name(word: Word, hit: Word, own: Sequence[str], text: str) -> bool:
    """Say whether a word beside a part of a name, with nothing but blanks between, is a name and none of its words."""
    between = text[min(word.end, hit.end) : max(word.start, hit.start)]
    if between.strip(" -") or any(alike(word.folded, other) for other in own):
        return False
    return _looks_like_name(text[word.start : word.end])


def disagree(query: str, prompt: str) -> bool:
    """Say whether two texts name different years, quarters, weekdays or versions, and none in common."""
    for kind in _COUNTED:
        asked, stored = ({found.casefold() for found in kind.findall(text)} for text in (query, prompt))
        if asked and stored and not asked & stored:
            return True
    return False


def other_script(subject: str, text: str) -> bool:
    """Say whether most letters of a text belong to another script than a subject's, so that it names it otherwise."""
    own, letters = {_script(char) for char in subject if char.isalpha()}, [c for c in text if c.isalpha()]
    return bool(own) and 2 * sum(_script(char) not in own for char in letters) > len(letters)


@functools.lru_cache(maxsize=1 << 12)
def _script(char: str) -> str:
    """Return the script of a letter as its Unicode name begins: LATIN, CYRILLIC, CJK, HANGUL, ..."""
    name = unicodedata.name(char, "").partition(" ")[0]
    return "CJK" if name.startswith(("HIRAGANA", "KATAKANA")) else name


def shares_name(prompt: str, found: Sequence[Word]) -> bool:
    """Say whether a word of an edit's prompt that looks like a name (a capital, a digit) is among a query's words."""
    names = [
        word.folded
        for word in words(prompt)
        if word.start > 0
        and len(word.folded) > 2
        and not word.folded.isdigit()
        and _looks_like_name(prompt[word.start : word.end])
        and not _is_date(word.folded)
    ]
    return any(alike(name, word.folded) for name in names for word in found)


def _is_date(word: str) -> bool:
    """Say whether a folded word names no subject: two texts about Fridays need have nothing else in common."""
    return word in MONTHS or word in WEEKDAYS or word.removesuffix("s") in WEEKDAYS


def _looks_like_name(word: str) -> bool:
    return word != word.lower() or any(char.isdigit() for char in word)


def alike(first: str, second: str) -> bool:
    """Say whether two folded words are one, but for one inserted, left out, exchanged or swapped letter.

    A word with a digit is only itself: "X2" is not a misspelt "X3".
    """
    if first == second:
        return True
    if not (first.isalpha() and second.isalpha()):
        return False
    if min(len(first), len(second)) < _TYPO_LETTERS - 1 or abs(len(first) - len(second)) > 1 or first[0] != second[0]:
        return False
    start = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    a, b = first[start:], second[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
