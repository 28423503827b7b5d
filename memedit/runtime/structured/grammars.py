"""Structures compiled for one model's tokens, by llguidance (MIT): Earley's parser over a lexer of derivatives.

JSON is written on one line, with one blank behind each colon and comma, as Python writes it: models have seen this form
most, and an answer cannot lose itself in white space. For the same reason an object has no other properties than its
schema names, unless the schema speaks of them.
"""

import json
import re
import threading
from collections import OrderedDict
from typing import Any

import llguidance
import llguidance.hf
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from memedit.errors import StructureError, UnsupportedModelError
from memedit.runtime.structured.constraint import Constraint
from memedit.runtime.structured.structure import Structure, StructureKind

_LIMITS = LLParserLimits(max_lexer_states=20_000, verbose_errors=False)
"""Compiling is over within about half a second under these, and a mask within about 15 ms, whatever the input."""

_KEPT, _KEPT_TEXT = 64, 2 << 20
"""Structures that are kept compiled, and characters that they may have together: large ones take much memory."""

_JSON: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_VALUES = frozenset({"const", "enum", "default", "examples"})
_OPEN = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties"})
_JOINED = frozenset({"$ref", "anyOf", "oneOf"})
_PLACE = re.compile(r"\s+")


class Grammar:
    """A compiled structure. Safe to use from several threads; every answer takes a constraint of its own."""

    def __init__(self, structure: Structure, matcher: LLMatcher, tokens: LLTokenizer) -> None:
        self.structure, self.tokens = structure, tokens
        self._matcher = matcher
        self._lock = threading.Lock()

    def constraint(self) -> Constraint:
        """Return what holds one answer to it, at its beginning."""
        with self._lock:
            return Constraint(self._matcher.deep_copy(), self.tokens)


class Grammars:
    """Compiles structures for one model; the last ones are kept.

    Args:
        tokenizer: the model's, a fast one.
        vocabulary: width of the model's logits.
        ends: ids that end an answer.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: frozenset[int]) -> None:
        self._tokenizer, self._vocabulary, self._ends = tokenizer, vocabulary, ends
        self._tokens: LLTokenizer | None = None
        self._known: OrderedDict[Structure, Grammar] = OrderedDict()
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Read the tokenizer's tokens now, so that the first structure need not wait for it.

        Raises:
            UnsupportedModelError: as for :meth:`compile`.
        """
        with self._lock:
            self._bytes()

    def compile(self, structure: Structure) -> Grammar:
        """Return the structure compiled.

        Raises:
            StructureError: it is wrong, asks for what is not supported, or is too large.
            UnsupportedModelError: the model has no tokenizer whose tokens can be read as bytes.
        """
        with self._lock:
            if structure in self._known:
                self._known.move_to_end(structure)
                return self._known[structure]
            tokens = self._bytes()
        matcher = LLMatcher(tokens, _source(structure), log_level=0, limits=_LIMITS)
        if not matcher.is_error():
            matcher.compute_bitmask()  # what has no beginning is found out here, not in the midst of an answer
        problems = [matcher.get_error()] if matcher.is_error() else matcher.get_grammar_warnings()
        if problems:
            raise StructureError(_told(structure, problems[0]))
        grammar = Grammar(structure, matcher, tokens)
        with self._lock:
            self._known[structure] = grammar
            while len(self._known) > _KEPT or sum(len(one.text) for one in self._known) > _KEPT_TEXT:
                self._known.popitem(last=False)
        return grammar

    def _bytes(self) -> LLTokenizer:
        """The model's tokens as bytes; read from its tokenizer once, which takes a second."""
        if self._tokens is None:
            try:
                ends = sorted(self._ends)
                self._tokens = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=ends)
            except Exception as error:  # the library raises what it likes about tokenizers that it does not know
                kind = type(self._tokenizer).__name__
                raise UnsupportedModelError(f"structured output cannot use {kind}: {error}") from error
        return self._tokens


def _source(structure: Structure) -> str:
    """Return a structure as the library takes it."""
    try:
        if structure.kind is StructureKind.JSON:
            return LLMatcher.grammar_from_json_schema(closed(structure.schema), overrides=_JSON)
        if structure.kind is StructureKind.REGEX:
            return LLMatcher.grammar_from_regex(structure.text)
        if structure.kind is StructureKind.MIXED:
            return LLMatcher.grammar_from_lark(structure.text)
        return llguidance.grammar_from(structure.kind.value, structure.text)  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:
        raise StructureError(_told(structure, str(error))) from error


def closed(schema: Any) -> Any:
    """Return a schema whose objects have no properties beside those they name, unless they say that they have.

    Schemas that put objects together from parts (``allOf``, or properties beside a reference) are left as they are.
    """
    return _closed(schema) if isinstance(schema, dict) and not _joins(schema) else schema


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(part) for part in node]
    if not isinstance(node, dict):
        return node
    inner = {key: value if key in _VALUES else _closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and not _OPEN.intersection(node):
        inner["additionalProperties"] = False
    return inner


def _joins(node: Any) -> bool:
    if isinstance(node, list):
        return any(map(_joins, node))
    if not isinstance(node, dict):
        return False
    if "allOf" in node or ("properties" in node and _JOINED.intersection(node)):
        return True
    return any(_joins(value) for key, value in node.items() if key not in _VALUES)


def _told(structure: Structure, problem: str) -> str:
    what = {"json": "JSON schema", "regex": "pattern", "choice": "choice"}.get(structure.kind.value, "grammar")
    said = _PLACE.sub(" ", problem).strip()
    if structure.kind is StructureKind.JSON and said.startswith("Unimplemented keys"):
        keys = ", ".join(map(repr, json.loads(said.partition(":")[2])))
        return f"the JSON schema uses {keys}, which cannot be held to; leave it out and check the answer yourself"
    return f"the {what} cannot be used: {said[:400]}"
