"""Find the subject of a prompt without a model.

A prompt is cut into tokens, and tokens that look like parts of a name (capitals, numbers, quotes) are joined into spans
across the small words that names hold ("of", "de", "and the"). Scripts without capitals are cut at their particles and
question words. The best span wins: quoted text first, then length, then how early it stands.
"""

import itertools
import re
from dataclasses import dataclass

from memedit.index.function_words import ENGLISH_FUNCTION_WORDS, FOREIGN_QUESTION_WORDS, FUNCTION_WORDS
from memedit.index.words import words


def _set(words_in_a_row: str) -> frozenset[str]:
    return frozenset(words_in_a_row.split())


_MAX_PROMPT = 4000
_TOKEN = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)|[^\W_]+(?:[.'’&/_\-‐‑–][^\W_]+)*\.?|[^\w\s]", re.UNICODE)
_QUOTES = re.compile(
    r"\"([^\"]{2,300})\"|“([^”]{2,300})”|«\s*([^»]{2,300}?)\s*»|「([^」]{1,200})」|『([^』]{1,200})』"
    r"|《([^》]{1,200})》|„([^“”]{2,300})[“”]|(?<!\w)['‘]([^'’]{3,200})['’](?!\w)"
)
_CONNECTORS = _set("""
    of the and in at on for to from with by a an de la le les du des del della di da dos das do van von der den
    und y e et el los las al bin ibn abu zu zur vom am im as or nor vs versus
    """)
_JOINING_MARKS = frozenset("-–—&/+:.,'’()!#")
_NEVER_INITIAL = _set("""
    name list give tell state complete question answer according during since despite although because while both many
    another every several nq also people someone today currently once only even further find identify
    """)
_RELATION_VERBS = _set("won used played plays follows died")
_COPULAS = frozenset({"is", "was", "are", "were"})
_DASHES = frozenset("-–—")
_QUESTION_WORDS = _set("who whom whose what which when where why how")
_PARTICIPLES = _set(
    "set made found built born known written held given taken shown spoken worn seen grown sung drawn led"
)
# An initial one of these is not part of a name ("In Rome", "The Hague" loses nothing but its article).
_OPENERS = _QUESTION_WORDS | _set("""
    the a an in on at for from to of by with during under is are was were do does did has have can could will would and
    or but if as since until before after about between into
    """)
_STOPS = FUNCTION_WORDS | _RELATION_VERBS | _set("often also take first play pass come begin")
_PREDICATES = _set("is are was were has have had did does do will can could")


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
    asked: int  # 1: stands where a question names its subject; -1: inside the question's own phrase; 0: neither


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
    if text.isupper():
        return _lower_case(text)
    german = _GERMAN_GENITIVE.match(text)
    if german is not None:
        text = text[german.end() :]
    spans = _name_spans(text, _tokens(text))
    lettered = any(c.isalpha() for span in spans for c in text[span.start : span.end])
    if not spans or (not lettered and text[1:].islower()):
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
    matches = list(_TOKEN.finditer(text))
    for match, following in itertools.zip_longest(matches, matches[1:]):
        word = match.group()
        if word.endswith(".") and len(word) > 3 and "." not in word[:-1] and not word[0].isdigit():
            word = word[:-1]  # a full stop, not an initial or abbreviation
        tokens.append(
            _Token(
                word,
                match.start(),
                match.start() + len(word),
                _is_name(word, opening, following.group() if following else ""),
            )
        )
        opening = word in {".", "?", "!", "…"} or match.group() != word or (opening and not word[0].isalnum())
    return tokens


def _is_name(word: str, opening: bool, following: str) -> bool:
    if word[0].isdigit():
        return True
    if not word[0].isalnum():
        return False
    if not any(c.isupper() for c in word):
        return not any(c.islower() for c in word)  # a script without capitals inside one that has them
    if opening:
        folded = words(word)
        base = folded[0].folded if folded else ""
        if base in _NEVER_INITIAL or base in _OPENERS or base in FOREIGN_QUESTION_WORDS:
            return False
        return base not in FUNCTION_WORDS or following[:1].isupper()
    return True


def _after_auxiliary(tokens: list[_Token], first: int) -> int:
    """Where a name stands in a question: after its auxiliary ("is", "did"), before it, or it is no question."""
    opening = [token.text.lower() for token in tokens[:2]]
    if not _QUESTION_WORDS.intersection(opening):
        return 0
    at = next((i for i, token in enumerate(tokens) if token.text in _PREDICATES), None)
    if at is None:
        return 0
    if first < at:
        return -1
    return 1 if first - at <= 2 or not any(token.name for token in tokens[at:first]) else 0


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
        last = _end_of_name(tokens, i, last)
        end = _closing_bracket(text, tokens[i].start, tokens[last].end)
        spans.append(_Span(tokens[i].start, end, size, _after_auxiliary(tokens, i)))
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
        if token.text not in _CONNECTORS and token.text not in _JOINING_MARKS and not _is_particle(token.text):
            return None
    return None


def _is_particle(word: str) -> bool:
    """Short lower-case words inside a name ("ter", "og", "ben") that no English sentence has between two names."""
    return len(word) <= 3 and word.islower() and word not in ENGLISH_FUNCTION_WORDS


def _possessor(word: str) -> bool:
    return word.endswith(("'s", "’s"))


def _closing_bracket(text: str, start: int, end: int) -> int:
    """Take in the bracket that closes one opened inside, and marks that belong to a title ("Jeopardy!")."""
    if text.count("(", start, end) > text.count(")", start, end) and text[end : end + 1] == ")":
        return end + 1
    return end


def _end_of_name(tokens: list[_Token], first: int, last: int) -> int:
    """Position of the last token of the name, taking in lower-case words that belong to it.

    Only a noun can stand before "is" or ", which" ("Dee Bridge disaster is"), between "did" and the verb ("did Gold
    dust robbery occur?"), or after "of" up to the end ("the author of Using cells for research is").
    """
    if _possessor(tokens[last].text):
        return last
    described = first > 0 and tokens[first - 1].text.lower() in {"of", "which", "by", "for"}
    statement = tokens[0].text.lower() == "the" and tokens[-1].text in _COPULAS
    if described and statement:
        return _up_to_copula(tokens, first, last)
    tail: list[int] = []
    for at in range(last + 1, len(tokens)):
        word = tokens[at].text
        if word in _DASHES and not tail:
            continue
        if not word[0].isalpha() or tokens[at].name or word in _STOPS or _is_participle(word) or _is_adverb(word):
            break
        tail.append(at)
    if not tail or len(tail) > 3:
        return last
    stop = tokens[tail[-1] + 1].text if tail[-1] + 1 < len(tokens) else ""
    dashed = tokens[last + 1].text in _DASHES
    if _asks_with_do(tokens, first) or (dashed and not stop):
        tail = tail[:-1]  # the last one is the verb
    elif stop == "?":
        tail = tail if described or not any(token.text in _PREDICATES for token in tokens) else []
    elif stop not in _PREDICATES and stop != "," and not _is_participle(stop):
        tail = []
    return tail[-1] if tail else last


def _up_to_copula(tokens: list[_Token], first: int, last: int) -> int:
    """Within "The R of S is" and "The R which S is known for is": the token before the copula or verb that ends S."""
    if tokens[first - 1].text == "which":
        ends = [at for at in range(last + 1, len(tokens)) if tokens[at].text in _PREDICATES | _RELATION_VERBS]
        return ends[0] - 1
    inner = range(last + 1, len(tokens) - 1)
    if any(tokens[at].text in _PREDICATES | _RELATION_VERBS | {"which", "that", "who"} for at in inner):
        return last
    return len(tokens) - 2


def _asks_with_do(tokens: list[_Token], first: int) -> bool:
    return any(token.text in {"does", "do", "did"} for token in tokens[:first])


def _is_adverb(word: str) -> bool:
    return len(word) > 4 and word.endswith("ly")


def _is_participle(word: str) -> bool:
    return (len(word) > 4 and word.endswith("ed")) or word in _PARTICIPLES


def _best(text: str, spans: list[_Span], target: str | None) -> _Span:
    answer = {word.folded for word in words(target or "")}

    def score(rank: int, span: _Span) -> float:
        inside = {word.folded for word in words(text[span.start : span.end])}
        given_away = bool(answer) and inside <= answer
        year = text[span.start : span.end].isdigit()
        return min(span.size, 3) - 0.9 * rank + 2.0 * span.asked - 3.0 * given_away - 1.5 * year

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
        rest = _STATEMENT_END.split(rest, maxsplit=1)[0]
    else:
        rest = rest[head.end() :]
        auxiliary = _AUXILIARY.match(rest)
        if auxiliary:
            rest = rest[auxiliary.end() :]
            if auxiliary.group().split()[-1].lower() in {"do", "does", "did"}:
                rest = _FINAL_VERB.sub("", rest)
        elif " " in rest:
            rest = rest.split(" ", 1)[1]  # the verb: "who [wrote] the song"
    return _ARTICLE.sub("", rest.strip(" ,;:")) or None


# German writes every noun with a capital, so in "Die Hauptstadt von Frankreich" the first is not the name.
_GERMAN_GENITIVE = re.compile(r"^(?:Die|Der|Das)\s+\w+\s+(?:von|der|des)\s+(?=[^\W\d_])")
_STATEMENT_END = re.compile(r",|'s\b|’s\b|\s(?:is|are|was|were|has|have|had|can|does|did)\b")
_FINAL_VERB = re.compile(r"\s+[^\W\d_]+(?:\s+(?:to|in|for|from|of|on|at|by|with|under|as|into))?$", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:the|a|an) ", re.IGNORECASE)
_CASELESS_CUT = re.compile(
    r"[的是在は।をがにへで？?。、，,！!]|の|은 |는 |이 |가 |의 |을 |를 |에서|에 |\sकी\s|\sका\s|\sके\s|\s*:\s*"
)


def _caseless(text: str) -> str | None:
    """The part before the first particle (Chinese, Japanese, Korean), else the longest word."""
    parts = [part.strip() for part in _CASELESS_CUT.split(text)]
    parts = [part for part in parts if words(part)]
    if not parts:
        return None
    return parts[0] if len(parts) > 1 else max(text.split(), key=len)
