"""Facts made up about subjects of the data: relations that the data files lack, each in several wordings."""

import functools
import random
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from memedit.workflows.scope_training.rows import EditRow

MADE = "made"
"""Source of made rows."""
_HELD_BACK = 8
"""One relation in so many is never fitted: the report shows how the head does on relations it has not seen."""
_SYLLABLES = """
ba be bor cal dan den dor el fen fi gan gra hal hu ir jo ka kel lin lor ma mir no nu or os pel quin ra ros sel su tav
thal tor u val ven wes yan zor
""".split()  # noqa: SIM905 - forty words in quotes are harder to read
_KINDS = ("", "", "", "", " bakery", " Group", " Institute", " River", " Festival", " Bridge", " Theory", " museum")


@functools.cache
def families() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Return relations by family, each with wordings whose slot takes the subject."""
    loaded = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    return {
        family: {name: tuple(wordings) for name, wordings in relations.items()} for family, relations in loaded.items()
    }


def held_back(relation: str) -> bool:
    """Say whether a relation is kept for the report."""
    return zlib.crc32(relation.encode()) % _HELD_BACK == 0


def made_rows(
    rng: random.Random, rows: Sequence[EditRow], count: int, *, reported: bool = False, hops: int = 0
) -> list[EditRow]:
    """Make ``count`` edits: their other wordings are inside, other relations of the family outside.

    With ``hops`` so many questions about what the edit names are inside as well ("How tall is the mother of X?"). Half
    of the subjects are those of ``rows``, half made up: a memory holds many names that no encoder has read. Edits and
    questions are about relations that are fitted or, if ``reported``, about those held back.
    """
    subjects = [row.subject for row in rows if row.named and row.subject]
    return [_made(rng, number, subjects, reported, hops) for number in range(count if len(subjects) > 1 else 0)]


def _made(rng: random.Random, number: int, subjects: Sequence[str], reported: bool, hops: int) -> EditRow:
    subject, stranger = rng.sample(subjects, 2) if rng.random() < 0.5 else (_name(rng), _name(rng))
    relations = families()[rng.choice(list(families()))]
    own, *others = rng.sample([name for name in relations if held_back(name) == reported], 4)
    wordings = rng.sample(relations[own], min(4, len(relations[own])))
    prompt, *inside = [wording.format(subject) for wording in wordings]
    outside = [("specificity", rng.choice(relations[name]).format(subject)) for name in others]
    outside.append(("locality", rng.choice(relations[own]).format(stranger)))
    return EditRow(
        source=MADE,
        prompt=prompt,
        target=f"answer {number}",
        subject=subject,
        named=True,
        inside=(
            *(("paraphrase", text) for text in inside),
            *(("hop", _asked_of(rng, f"the {own} of {subject}", reported)) for _ in range(hops)),
        ),
        outside=tuple(outside),
    )


def _asked_of(rng: random.Random, thing: str, reported: bool) -> str:
    """Ask some relation of a thing."""
    relations = families()[rng.choice(list(families()))]
    wordings = relations[rng.choice([name for name in relations if held_back(name) == reported])]
    return rng.choice(wordings).format(thing)


def _name(rng: random.Random) -> str:
    words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3))).capitalize() for _ in range(rng.randint(1, 2))]
    joined = rng.choice((" ", " ", " and ")).join(words)
    return joined + rng.choice(_KINDS)


def other_attribute(rng: random.Random, prompt: str) -> str | None:
    """Return the wording of a relation whose name does not stand in ``prompt``, None when that of the draw does."""
    relations = families()[rng.choice(list(families()))]
    name = rng.choice([name for name in relations if not held_back(name)])
    if name.split()[-1] in prompt.casefold():
        return None
    return rng.choice(relations[name])
