"""Which edits a query may be about, and the texts in which each is judged: nominate, then judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memedit.index.words import Word, words
from memedit.scope.identity import is_verbatim
from memedit.scope.judge.places import (
    PARTLY,
    disagree,
    focused,
    mask,
    named_outright,
    other_script,
    partly_named,
    places,
    referring,
    renamed,
    shares_name,
    told,
    within_longer_name,
)
from memedit.scope.text import folded_text, is_name
from memedit.types import Candidate, Encoding

Rare = Callable[[str], bool]
MAX_NAMED = 24
"""Candidates of a query whose subject stands in it that are judged: the most similar."""
MAX_OTHERWISE = 4
"""Candidates whose subject does not stand in the query as stored that the cross-encoder reads."""
MAX_TOLD = 8
"""Candidates of a talk that the cross-encoder reads."""
MAX_ABROAD = 4
"""Candidates whose subject may be named in another script that the cross-encoder reads: the most similar."""
_LIKE, _LIKE_WITHOUT = 0.7, 0.55
"""An edit whose subject is no name may be meant at this cosine; one without a subject at the second."""


@dataclass(slots=True, eq=False)
class Judged:
    """A candidate under judgement: texts beside each other, and what has been found.

    ``query`` has the subject masked; where it does not stand there as stored, ``whole`` is the text as it is.
    """

    candidate: Candidate
    named: bool
    query: str
    whole: str = ""
    edit: str = ""
    relation: float = 0.0
    cross: float | None = None
    direct: float | None = None
    verbatim: bool = False
    talk: bool = False
    share: float | None = None
    span: tuple[int, int] | None = None
    """Where the query names the subject, which it does not hold as stored."""
    block: float | None = None
    """Logit of the nearest text that the edit blocks, where that is nearer than every text of the edit."""
    abroad: bool = False
    """The query is in another script than the subject."""


def nominated(query: Encoding, candidates: Sequence[Candidate], rare: Rare, *, scripts: bool = False) -> list[Judged]:
    """Return the candidates that the query may be about, with its text as each is judged beside it.

    Args:
        query: a text.
        candidates: the memory's.
        rare: says of a folded word that it is no common one.
        scripts: whether the encoder reads a name in another script as that name.
    """
    asked = folded_text(query.text)
    everywhere = words(query.text)
    named = [item for item in candidates if item.subject_span is not None]
    found: list[Judged] = []
    texts: dict[str, str] = {}
    for item in sorted(candidates, key=lambda item: -item.similarity):
        subject = item.edit.subject or ""
        if is_verbatim(asked, item.edit):
            found.append(Judged(item, item.subject_span is not None, query.text, verbatim=True))
        elif disagree(query.text, item.edit.prompt):
            continue
        elif item.subject_span is not None and sum(judged.named for judged in found) < MAX_NAMED:
            spans = places(subject, query.text) or [item.subject_span]
            if subject not in texts:
                texts[subject] = focused(mask(query.text, spans))
            found.append(_as_named(item, query.text, everywhere, spans, texts[subject]))
        elif item.subject_span is None:
            room = sum(not judged.named for judged in found) < MAX_OTHERWISE
            here = _not_of_others(everywhere, named, subject)
            meant = _named_otherwise(item, query.text, here, rare, room=room)
            if not meant and scripts and not named and other_script(subject, query.text):
                abroad = sum(judged.abroad for judged in found) < MAX_ABROAD
                text = focused(query.text)
                meant = [Judged(item, False, text, text, abroad=True)] if abroad else []
            found += meant
    return found


def _named_otherwise(item: Candidate, text: str, here: Sequence[Word], rare: Rare, *, room: bool) -> list[Judged]:
    """Return a candidate whose subject does not stand in a query as stored, if it may be meant all the same."""
    subject = item.edit.subject or ""
    outright = named_outright(subject, item.edit.prompt, here, text, rare)
    if outright is not None:
        return [Judged(item, True, focused(outright[1]), span=outright[0])]
    share, hidden = _meant(item, text, here) if room else (None, None)
    if hidden is None:
        return []
    return [Judged(item, False, focused(hidden), focused(text), share=share if is_name(subject) else None)]


def _as_named(
    item: Candidate, text: str, found: Sequence[Word], spans: Sequence[tuple[int, int]], hidden: str
) -> Judged:
    """Return a candidate whose subject stands in a query: of that, if not of something with a longer name."""
    if within_longer_name(text, found, spans, item.edit.prompt):
        return Judged(item, False, hidden, focused(text), share=1.0)
    return Judged(item, True, hidden)


def nominated_in_talk(query: Encoding, candidates: Sequence[Candidate]) -> list[Judged]:
    """Return the candidates whose subject an earlier turn names, those named in full and most similar first."""
    ordered = sorted(candidates, key=lambda item: (item.subject_span is None, -item.similarity))
    found = []
    for item in ordered[:MAX_TOLD]:
        text = told(query.text, item.edit.subject or "")
        if text is not None:
            found.append(Judged(item, True, referring(text), text, talk=True))
    return found


def _meant(item: Candidate, text: str, here: Sequence[Word]) -> tuple[float | None, str | None]:
    """Return the share of the subject that stands in a query, and the query with that masked (None: not meant).

    Of the query those words count that name no other subject.
    """
    subject = item.edit.subject or ""
    share, hidden = partly_named(subject, here, text) if subject else (0.0, text)
    if share >= PARTLY and renamed(subject, here, text):
        return share, None
    if share >= PARTLY or shares_name(item.edit.prompt, here):
        return share, hidden
    least = _LIKE if subject else _LIKE_WITHOUT
    return share, text if item.similarity >= least and not is_name(subject) else None


def _not_of_others(found: Sequence[Word], named: Sequence[Candidate], subject: str) -> Sequence[Word]:
    """Return the words of a query without those that name another stored subject, unless that is a part of this one."""
    own = folded_text(subject)
    spans = [
        item.subject_span for item in named if item.subject_span and folded_text(item.edit.subject or "") not in own
    ]
    return [word for word in found if not any(start <= word.start < end for start, end in spans)] if spans else found
