"""Names of people, places and things that no edit is about, found in text, to stand where an edit's subject does.

A name is a run of capitalised words. For each subject the names most like it are taken, by the encoder's cosine: for a
person mostly people, for a place places. Text in a script without capitals has none.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch

from memedit.encoders import load_encoder

NEAREST = 16
"""Names for each subject."""
MOST = 4_000
"""Names compared: those that stand in the text most often."""
_LONGEST = 5
_WORD = re.compile(r"[^\W\d_](?:\.(?=\s)|[\w'’-]*)")
_OPENS = frozenset('.!?=:"“')


def other_names(subjects: Sequence[str], texts: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return, for each subject, names in the texts that are most like it and that no subject has.

    Args:
        subjects: of the edits.
        texts: any text.

    Raises:
        ModelNotFoundError: there is no MiniLM.
    """
    asked = sorted(set(subjects))
    taken = {subject.casefold() for subject in asked}
    counted = Counter(name for text in texts for name in names_in(text) if name.casefold() not in taken)
    names = [name for name, _ in counted.most_common(MOST)]
    if not names or not asked:
        return {}
    encoder = load_encoder()
    cosines = torch.from_numpy(encoder.encode(asked) @ encoder.encode(names).T)
    nearest = cosines.topk(min(NEAREST, len(names))).indices.tolist()
    return {subject: [names[at] for at in row] for subject, row in zip(asked, nearest, strict=True)}


def names_in(text: str) -> Iterator[str]:
    """Yield the runs of up to five capitalised words, but for single words that open a sentence."""
    run: list[re.Match[str]] = []
    for word in _WORD.finditer(text):
        follows = bool(run) and text[run[-1].end() : word.start()] == " "
        if run and not (follows and word[0][0].isupper()):
            yield from _named(text, run)
            run = []
        if word[0][0].isupper():
            run.append(word)
    yield from _named(text, run)


def _named(text: str, run: Sequence[re.Match[str]]) -> Iterator[str]:
    if not 0 < len(run) <= _LONGEST:
        return
    before = text[max(0, run[0].start() - 8) : run[0].start()].rstrip()
    if len(run) > 1 or (before and before[-1] not in _OPENS):
        yield text[run[0].start() : run[-1].end()]
