"""What an answer has to be, in the fields by which OpenAI's, vLLM's, SGLang's and llama.cpp's clients say it."""

from collections.abc import Callable, Mapping
from typing import Any

from memedit.errors import StructureError
from memedit.runtime.structured import Structure
from memedit.server.problems import ApiError

_EMPTY: tuple[Any, ...] = (None, "", [], {})

_FIELDS: Mapping[str, Callable[[Any], Structure]] = {
    "guided_json": Structure.json, "guided_regex": Structure.regex, "guided_choice": Structure.choice,
    "guided_grammar": Structure.grammar, "json_schema": Structure.json, "regex": Structure.regex,
    "ebnf": Structure.grammar, "grammar": Structure.grammar,
}  # fmt: skip
_OUTPUTS: Mapping[str, Callable[[Any], Structure]] = {
    "json": Structure.json, "regex": Structure.regex, "choice": Structure.choice, "grammar": Structure.grammar,
    "json_object": lambda _: Structure.json(),
}  # fmt: skip
_NEEDLESS = frozenset({"disable_fallback", "disable_any_whitespace", "disable_additional_properties"})
"""Options of vLLM's that hold here as they are, or that change no more than which valid answers are likely."""

STRUCTURES = frozenset({"response_format", "structured_outputs", *_FIELDS})
"""Fields that say what an answer has to be."""


def structure_of(extra: Mapping[str, Any]) -> tuple[Structure, str] | None:
    """Return what the answer to a request has to be, and the field that says so; None when it may be anything.

    Raises:
        ApiError: 400, a field is wrong, asks for what is not supported, or contradicts another one.
    """
    found: list[tuple[str, Callable[[], Structure]]] = []
    for name, make in _FIELDS.items():
        if extra.get(name) not in _EMPTY:
            found.append((name, _bound(make, extra[name])))
    found += _response_format(extra.get("response_format"))
    found += _structured_outputs(extra.get("structured_outputs"))
    if len(found) > 1:
        names = " and ".join(name for name, _ in found)
        raise ApiError(400, f"{names} say twice what the answer has to be", code="invalid_value", param=found[1][0])
    for name, build in found:
        try:
            return build(), name
        except StructureError as error:
            raise wrong_structure(error, name) from error
    return None


def wrong_structure(error: Exception, name: str) -> ApiError:
    """Return what a client is told about a structure that cannot be used."""
    return ApiError(400, f"{name}: {error}", code="invalid_structure", param=name)


def _bound(make: Callable[[Any], Structure], value: Any) -> Callable[[], Structure]:
    return lambda: make(value)


def _response_format(given: Any) -> list[tuple[str, Callable[[], Structure]]]:
    if given in _EMPTY:
        return []
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind == "text":
        return []
    if kind == "json_object":
        schema = given.get("schema")  # as llama.cpp's clients give it
        name = "response_format.schema" if schema is not None else "response_format"
        return [(name, lambda: Structure.json(schema))]
    if kind != "json_schema":
        message = f"response_format.type {kind!r} is not supported; give 'text', 'json_object' or 'json_schema'"
        raise ApiError(400, message, code="unsupported_parameter", param="response_format.type")
    inner = given.get("json_schema")
    if not isinstance(inner, Mapping) or not isinstance(inner.get("schema"), Mapping | bool):
        message = "response_format.json_schema has a name and a schema, which is an object"
        raise ApiError(400, message, code="invalid_value", param="response_format.json_schema")
    schema = inner["schema"]
    return [("response_format.json_schema.schema", lambda: Structure.json(schema))]


def _structured_outputs(given: Any) -> list[tuple[str, Callable[[], Structure]]]:
    if given in _EMPTY:
        return []
    if not isinstance(given, Mapping):
        message = "structured_outputs is an object with json, regex, choice, grammar or json_object"
        raise ApiError(400, message, code="invalid_value", param="structured_outputs")
    found = []
    for name, value in given.items():
        if value in (*_EMPTY, False) or name in _NEEDLESS:
            continue
        field = f"structured_outputs.{name}"
        if name not in _OUTPUTS:
            raise ApiError(400, f"{field} is not supported by this engine", code="unsupported_parameter", param=field)
        found.append((field, _bound(_OUTPUTS[name], value)))
    return found
