"""Changing fields of a settings dataclass by name, from text."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import yaml

from memedit.errors import InputError, UnknownNameError
from memedit.registry import unknown_name_message

Settings = TypeVar("Settings")


def with_overrides(settings: Settings, overrides: Mapping[str, str]) -> Settings:
    """Return ``settings`` with fields set from text; ``"fit.steps"`` names a field of a field.

    A value is read as YAML ("16", "1e-3", "true", "null", "[1, 2]") and must be of the kind of the value it replaces.

    Raises:
        InputError: a value is of another kind, or the settings refuse it.
        UnknownNameError: there is no such field; the message lists near matches.
    """
    for name, text in overrides.items():
        settings = _changed(settings, name, name.split("."), text)
    return settings


def _changed(settings: Any, name: str, path: list[str], text: str) -> Any:
    known = [field.name for field in dataclasses.fields(settings)]
    if path[0] not in known:
        raise UnknownNameError(unknown_name_message("setting", name, known))
    old = getattr(settings, path[0])
    if dataclasses.is_dataclass(old) and len(path) == 1:
        inner = ", ".join(f"{name}.{field.name}" for field in dataclasses.fields(old))
        raise InputError(f"setting {name!r} has parts; set one of them: {inner}")
    if len(path) > 1:
        if not dataclasses.is_dataclass(old):
            raise InputError(f"setting {path[0]!r} has no parts, but {name!r} was given")
        value = _changed(old, name, path[1:], text)
    else:
        value = _value(name, old, text)
    try:
        return dataclasses.replace(settings, **{path[0]: value})
    except (TypeError, ValueError) as error:
        raise InputError(f"setting {name!r}: {error}") from error


def _value(name: str, old: Any, text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"setting {name!r}: {text!r} cannot be read: {error}") from error
    if isinstance(old, float) and not isinstance(value, bool):
        # YAML reads 1e-3 as a string
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"setting {name!r} takes a number, got {text!r}") from error
    if old is not None and type(value) is not type(old) and not (isinstance(old, tuple) and isinstance(value, list)):
        raise InputError(f"setting {name!r} takes a value like {old!r}, got {text!r}")
    return tuple(value) if isinstance(old, tuple) else value
