"""Find the subject of a prompt without a model.

A prompt is cut into tokens, and tokens that look like parts of a name (capitals, numbers, quotes) are joined into spans
across the small words that names hold ("of", "de", "and the"). Scripts without capitals are cut at their particles and
question words. The best span wins: quoted text first, then length, then how early it stands.
"""

import re
from dataclasses import dataclass

from memedit.index.function_words import FUNCTION_WORDS
from memedit.index.words import words

_MAX_PROMPT = 4000
_TOKEN = re.compile(r"[^\W_]+(?:[.'’&/_\-‐‑–][^\W_]+)*\.?|[^\w\s]", re.UNICODE)
_QUOTES = re.compile(
    r"\"([^\"]{2,300})\"|“([^”]{2,300})”|«\s*([^»]{2,300}?)\s*»|「([^」]{1,200})」|『([^』]{1,200})』"
    r"|《([^》]{1,200})》|„([^“”]{2,300})[“”]|(?<!\w)['‘]([^'’]{3,200})['’](?!\w)"
)
_CONNECTORS = frozenset(
    """
    of the and in at on for to from with by a an de la le les du des del della di da dos das do van von der den und y e et
    el los las al bin ibn abu zu zur vom am im as or nor vs versus
    """.split()
)
_JOINING_MARKS = frozenset("-–—&/+:.,'’()!#")
_NEVER_INITIAL = frozenset(
    """
    name list give tell state complete question answer according during since despite although because while both many
    another every several nq also people someone today currently once only even further find identify
    """.split()
)
_RELATION_ENDS = frozenset("won which that who used played".split())
_PREDICATES = frozenset("is are was were has have had did does do will can could".split())


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int
    end: int
    name: bool


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    size: int


def find_subject(prompt: str, target: str | None = None) -> str | None:
    """Return the part of ``prompt`` that names what it is about, verbatim, or None when nothing stands out.

    A heuristic: right or overlapping for nearly all prompts of the form in which facts are edited, in languages with
    capitals; a guess for questions in lower case. ``target`` helps where a prompt holds its own answer: that span is
    taken only if there is no other.
    """
    text = prompt[:_MAX_PROMPT]
    quoted = _quoted(text)
    if quoted is not None:
        return quoted
    if not any(c.isupper() or c.islower() for c in text):
        return _caseless(text)
    spans = _name_spans(text, _tokens(text))
    if not spans:
        return _lower_case(text)
    best = _best(text, spans, target)
    return _without_possessive(text, text[best.start : best.end])


def _quoted(text: str) -> str | None:
    """The longest quoted span; a quotation of the whole prompt says nothing."""
    found = [next(group for group in match.groups() if group) for match in _QUOTES.finditer(text)]
    found = [quote.strip() for quote in found if words(quote) and len(quote) < 0.9 * len(text)]
    return max(found, key=len) if found else None


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    opening = True  # the next word begins a sentence, where a capital says little
    for match in _TOKEN.finditer(text):
        word = match.group()
        if word.endswith(".") and len(word) > 3 and "." not in word[:-1] and not word[0].isdigit():
            word = word[:-1]  # a full stop, not an initial or abbreviation
        tokens.append(_Token(word, match.start(), match.start() + len(word), _is_name(word, opening)))
        opening = word in {".", "?", "!", "…"} or match.group() != word or (opening and not word[0].isalnum())
    return tokens


def _is_name(word: str, opening: bool) -> bool:
    if word[0].isdigit():
        return True
    if not word[0].isalnum():
        return False
    if not any(c.isupper() for c in word):
        return not any(c.islower() for c in word)  # a script without capitals inside one that has them
    if opening:
        base = re.split(r"['’]", word.lower())[0]
        return base not in FUNCTION_WORDS and base not in _NEVER_INITIAL
    return True


def _name_spans(text: str, tokens: list[_Token]) -> list[_Span]:
    spans: list[_Span] = []
    i = 0
    while i < len(tokens):
        if not tokens[i].name:
            i += 1
            continue
        last, size = i, 1
        while (following := _next_name(text, tokens, last)) is not None:
            last, size = following, size + 1
        end = _closing_bracket(text, tokens[i].start, tokens[last].end)
        spans.append(_Span(tokens[i].start, _end_of_description(text, tokens, i, last, end), size))
        i = last + 1
    return spans


def _next_name(text: str, tokens: list[_Token], last: int) -> int | None:
    """Position of the name token that continues the name ending at ``last``, over small words and marks."""
    if _possessor(tokens[last].text) and last + 1 < len(tokens) and not tokens[last + 1].name:
        return None
    for at in range(last + 1, min(last + 5, len(tokens))):
        token = tokens[at]
        if token.name:
            return at
        between = tokens[last + 1 : at + 1]
        if token.text == "," and (at != last + 1 or tokens[last].text[:4].isdigit()):
            return None
        if token.text in _CONNECTORS and any(t.text == "," for t in between):
            return None
        if token.text not in _CONNECTORS and token.text not in _JOINING_MARKS:
            return None
    return None


def _possessor(word: str) -> bool:
    return word.endswith(("'s", "’s"))


def _closing_bracket(text: str, start: int, end: int) -> int:
    """Take in the bracket that closes one opened inside, and marks that belong to a title ("Jeopardy!")."""
    if text.count("(", start, end) > text.count(")", start, end) and text[end : end + 1] == ")":
        return end + 1
    return end


def _end_of_description(text: str, tokens: list[_Token], first: int, last: int, end: int) -> int:
    """In "The author of Using cells for research is" the name runs on to the last "is"."""
    if first == 0 or tokens[0].text.lower() != "the" or tokens[first - 1].text not in {"of", "in", "which", "by"}:
        return end
    rest = tokens[last + 1 :]
    if len(rest) < 2 or rest[-1].text not in {"is", "was", "are", "were"}:
        return end
    if any(t.text in _PREDICATES or t.text in _RELATION_ENDS or t.text == "," for t in rest[:-1]):
        return end
    return rest[-2].end


def _best(text: str, spans: list[_Span], target: str | None) -> _Span:
    answer = {word.folded for word in words(target or "")}

    def score(rank: int, span: _Span) -> float:
        inside = {word.folded for word in words(text[span.start : span.end])}
        given_away = bool(answer) and inside <= answer
        year = text[span.start : span.end].isdigit()
        return min(span.size, 3) - 0.9 * rank - 3.0 * given_away - 1.5 * year

    return max(enumerate(spans), key=lambda item: score(*item))[1]


def _without_possessive(text: str, name: str) -> str:
    return name[:-2] if _possessor(name) else name


_QUESTION_HEAD = re.compile(
    r"^(?:nq question:\s*)?(?:in|on|at|for|from|to|of|by|with|during|under)?\s*"
    r"(?:who|whom|whose|what|which|when|where|why|how(?: many| much| long| old| far)?)\b(?:'s|’s)?\s*",
    re.IGNORECASE,
)
_AUXILIARY = re.compile(
    r"^(?:.{0,40}?\b)?(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would)\b\s*", re.IGNORECASE
)
_RELATION_HEAD = re.compile(r"^(?:the |a |an )?(?:[^\W\d_]+ ){1,4}?(?:of|for)\s+", re.IGNORECASE)


def _lower_case(text: str) -> str | None:
    """What is left of a question in lower case without its question word, auxiliary and relation."""
    rest = text.strip().rstrip("?.! ")
    head = _QUESTION_HEAD.match(rest)
    if head is None:
        relation = _RELATION_HEAD.match(rest)
        rest = rest[relation.end() :] if relation else rest
    else:
        rest = rest[head.end() :]
        auxiliary = _AUXILIARY.match(rest)
        if auxiliary:
            rest = rest[auxiliary.end() :]
        elif " " in rest:
            rest = rest.split(" ", 1)[1]  # the verb: "who [wrote] the song"
    return rest.strip(" ,;:") or None


_CASELESS_CUT = re.compile(r"[的是在は।をがにへで？?。、，,！!]|の|은 |는 |이 |가 |의 |을 |를 |에서|에 |какой|\s*:\s*")


def _caseless(text: str) -> str | None:
    """The part before the first particle (Chinese, Japanese, Korean), else the longest word."""
    parts = [part.strip() for part in _CASELESS_CUT.split(text)]
    parts = [part for part in parts if words(part)]
    if not parts:
        return None
    return parts[0] if len(parts) > 1 else max(text.split(), key=len)
