"""Words of a text, folded so that case, diacritics, punctuation and possessives do not matter.

Scripts written without spaces (Han, Hiragana, Thai, Lao, Khmer, Burmese) and Hangul, whose particles cling to the noun,
are cut into characters; a run of Katakana is one word.
"""

import functools
import re
import unicodedata
from enum import IntEnum
from typing import NamedTuple

APOSTROPHES = "'’‘ʼ＇`´"
_NO_DECOMPOSITION = str.maketrans(
    {"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ħ": "h", "ŋ": "n"}
)
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+|[&+#$<=>|~@%]")
_ASCII_APOSTROPHES = frozenset("'`")
_SYMBOLS = "&＆#@%"  # punctuation by category, but part of names ("C#", "R&B")
_CHARACTER_SCRIPTS = ("CJK", "HIRAGANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR", "BOPOMOFO", "TIBETAN")


class Word(NamedTuple):
    """A folded word and where it stands: character offsets ``[start, end)`` in the text."""

    folded: str
    start: int
    end: int


class _Kind(IntEnum):
    SEPARATOR = 0
    LETTER = 1
    CHARACTER = 2  # a word of its own
    MARK = 3  # belongs to the character before it
    KATAKANA = 4


def words(text: str) -> list[Word]:
    """Cut ``text`` into folded words, in order. Runs in O(len(text)).

    "Zoë's café" gives "zoe" (0, 3) and "cafe" (6, 10): the possessive is dropped. Other apostrophes divide words
    ("l'Aquila" is "l", "aquila"), "&" is "and", and symbols are words ("C++" is "c", "+", "+").
    """
    found = _ascii_words(text) if text.isascii() else _unicode_words(text)
    return [word for i, word in enumerate(found) if not (word.folded == "s" and _is_possessive(text, found, i))]


def folded_words(text: str) -> list[str]:
    """Return the folded words of ``text`` alone; several times as quick as :func:`words` on plain ASCII names."""
    if text.isascii() and not _ASCII_APOSTROPHES.intersection(text):
        return ["and" if word == "&" else word for word in _ASCII_WORD.findall(text.lower())]
    return [word.folded for word in words(text)]


def is_hangul(char: str) -> bool:
    """Tell whether a character is a Hangul syllable or letter."""
    return "\uac00" <= char <= "\ud7a3" or "\u1100" <= char <= "\u11ff" or "\u3130" <= char <= "\u318f"


def is_character_word(char: str) -> bool:
    """Tell whether a character is a word of its own because its script puts no spaces between words."""
    kind, folded = _classify(char)
    return kind is _Kind.CHARACTER and folded.isalpha()


def _ascii_words(text: str) -> list[Word]:
    return [
        Word("and" if match.group() == "&" else match.group().lower(), match.start(), match.end())
        for match in _ASCII_WORD.finditer(text)
    ]


def _unicode_words(text: str) -> list[Word]:
    found: list[Word] = []
    open_kind = _Kind.SEPARATOR  # kind of the run that the next character may continue
    for i, char in enumerate(text):
        kind, folded = _classify(char)
        if kind is _Kind.SEPARATOR:
            open_kind = kind
        elif kind is _Kind.MARK:
            if found and found[-1].end == i:
                found[-1] = Word(found[-1].folded + folded, found[-1].start, i + 1)
        elif kind is open_kind and kind is not _Kind.CHARACTER:
            found[-1] = Word(found[-1].folded + folded, found[-1].start, i + 1)
        else:
            found.append(Word(folded, i, i + 1))
            open_kind = kind
    return found


def _is_possessive(text: str, found: list[Word], i: int) -> bool:
    at = found[i].start - 1
    return i > 0 and text[at] in APOSTROPHES and found[i - 1].end == at


@functools.lru_cache(maxsize=1 << 16)
def _classify(char: str) -> tuple[_Kind, str]:
    category = unicodedata.category(char)
    if category[0] == "M":
        return _Kind.MARK, "" if _is_diacritic(char) else char
    if (category[0] in "ZPC" and char not in _SYMBOLS) or category == "Sk":
        return _Kind.SEPARATOR, ""
    name = unicodedata.name(char, "")
    if "KATAKANA" in name:
        kind = _Kind.KATAKANA
    elif category[0] in "SP" or (category == "Lo" and name.startswith(_CHARACTER_SCRIPTS)):
        kind = _Kind.CHARACTER
    else:
        kind = _Kind.LETTER
    return kind, _fold(char)


def _fold(char: str) -> str:
    if char in {"&", "＆"}:
        return "and"
    lowered = unicodedata.normalize("NFKC", char).casefold()
    stripped = "".join(c for c in unicodedata.normalize("NFD", lowered) if not _is_diacritic(c))
    return unicodedata.normalize("NFC", stripped).translate(_NO_DECOMPOSITION) or lowered


def _is_diacritic(char: str) -> bool:
    """Accents, Hebrew points and Arabic vowel signs may be left out in writing; Indic and Thai vowels may not."""
    return (
        "\u0300" <= char <= "\u036f"
        or "\u0591" <= char <= "\u05c7"
        or "\u064b" <= char <= "\u065f"
        or char in "\u0670\u0640"
    )
