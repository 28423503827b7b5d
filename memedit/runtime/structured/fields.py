"""Which value of a JSON answer an edit's target belongs in, told by the schema's names and the edit's words."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memedit.index.function_words import FUNCTION_WORDS
from memedit.index.words import folded_words
from memedit.runtime.structured.json_place import Path
from memedit.types import Edit

_MOST_LEAVES = 200
_DEEPEST = 12
_ITEM = "*"
_STEM = 5
"""Words that share so many letters from the first on are taken for forms of one word (born apart)."""

_GENERIC = frozenset(
    {"answer", "answers", "value", "values", "result", "results", "response", "output", "text", "content", "reply"}
)
_PROSE = frozenset(
    {"question", "query", "reason", "reasons", "reasoning", "explanation", "note", "notes", "description", "summary"}
    | {"comment", "comments", "context", "details", "thought", "thoughts", "source", "evidence", "id", "date", "time"}
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Fit = tuple[int, float]
"""How well a value's name fits an edit: 3 it names what the edit says, 2 its description does, 1 it is a name for any
answer, 0 it says nothing; then the share of the name's words that fit. Larger is better."""

NAMED = 2
"""From here on a fit says that the edit is what the value is about."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value of a schema: where it stands, what its title and description say, and what it may be."""

    path: Path
    said: str = ""
    options: tuple[str, ...] = ()
    types: frozenset[str] = frozenset()


@dataclass(slots=True)
class Fields:
    """The values that a schema's answers have; none for a schema that names none."""

    leaves: list[Leaf] = field(default_factory=list)

    @classmethod
    def of(cls, schema: Any) -> "Fields":
        """Read a JSON schema."""
        found: list[Leaf] = []
        for leaf in _leaves(schema, schema, (), _DEEPEST):
            if len(found) >= _MOST_LEAVES:
                break
            found.append(leaf)
        return cls(found)

    def at(self, path: Path) -> list[Leaf]:
        """Return what the schema says about the value at a path; its name alone where it says nothing."""
        wanted = numberless(path)
        return [leaf for leaf in self.leaves if leaf.path == wanted] or [Leaf(wanted)]

    def standing(self, path: Path, edit: Edit, holds: Callable[[Leaf], bool]) -> tuple[Fit, Fit | None]:
        """Return how well the value at a path fits an edit, and how well the best other value does that ``holds``."""
        about, here = relation_words(edit), numberless(path)
        fit = max(fit_of(leaf, about) for leaf in self.at(path))
        others = [fit_of(leaf, about) for leaf in self.leaves if leaf.path != here and holds(leaf)]
        return fit, max(others, default=None)


def relation_words(edit: Edit) -> frozenset[str]:
    """Return the words by which an edit says what is asked about its subject."""
    subject = set(folded_words(edit.subject or ""))
    found = {word for text in (edit.prompt, *edit.paraphrases) for word in folded_words(text)}
    return frozenset(found - subject - FUNCTION_WORDS)


def fit_of(leaf: Leaf, about: frozenset[str]) -> Fit:
    """Return how well a value fits an edit with these words."""
    names = [part for part in leaf.path if part != _ITEM]
    name = _words(str(names[-1])) if names else []
    content = [word for word in name if word not in FUNCTION_WORDS]
    shared = [word for word in content if _among(word, about)]
    if shared:
        return 3, len(shared) / len(content)
    if any(_among(word, about) for word in _words(leaf.said)):
        return NAMED, 0.0
    return (1, 0.0) if not names or _GENERIC.intersection(name) else (0, 0.0)


def is_prose(leaf: Leaf) -> bool:
    """Whether a value is for free text, or for something else that is no subject of an edit, by its name."""
    return not leaf.path or bool((_PROSE | _GENERIC).intersection(_words(str(leaf.path[-1]))))


def _words(name: str) -> list[str]:
    return folded_words(re.sub(r"[_\-./]", " ", _CAMEL.sub(" ", name)))


def _among(word: str, about: frozenset[str]) -> bool:
    if word in about:
        return True
    return len(word) >= _STEM and any(other[:_STEM] == word[:_STEM] for other in about)


def numberless(path: Path) -> Path:
    """Return a path in which all items of an array are one."""
    return tuple(_ITEM if isinstance(part, int) else part for part in path)


def _leaves(node: Any, root: Any, path: Path, left: int) -> Iterator[Leaf]:
    if not isinstance(node, Mapping) or not left:
        return
    node = _resolved(node, root)
    inner = [
        *((value, (*path, name)) for name, value in _mapping(node.get("properties")).items()),
        *((value, (*path, _ITEM)) for value in (node.get("items"), *_sequence(node.get("prefixItems")))),
        *((one, path) for key in ("anyOf", "oneOf", "allOf") for one in _sequence(node.get(key))),
    ]
    inner = [(value, where) for value, where in inner if isinstance(value, Mapping)]
    for value, where in inner:
        yield from _leaves(value, root, where, left - 1)
    kinds = _types(node)
    if not inner and not (kinds and kinds <= {"object", "array", "null"}):
        options = tuple(
            str(one) for one in (*_sequence(node.get("enum")), *([node["const"]] if "const" in node else ()))
        )
        said = " ".join(str(node[key]) for key in ("title", "description") if isinstance(node.get(key), str))
        yield Leaf(path, said, tuple(map(str, options)), frozenset(kinds))


def _resolved(node: Mapping[str, Any], root: Any) -> Mapping[str, Any]:
    reference = node.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#"):
        return node
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = _mapping(found).get(part.replace("~1", "/").replace("~0", "~"))
    return {**_mapping(found), **{key: value for key, value in node.items() if key != "$ref"}}


def _types(node: Mapping[str, Any]) -> set[str]:
    kinds = node.get("type")
    return {kinds} if isinstance(kinds, str) else {str(kind) for kind in _sequence(kinds)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
