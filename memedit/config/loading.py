"""Read YAML safely and validate it, reporting every error at once with near matches for misspelt keys."""

import difflib
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from memedit.config.schemas import AdapterConfig, ConsolidationConfig, EvalConfig, ModelConfig, ScopeConfig
from memedit.config.settings import ENV_PREFIX, Settings
from memedit.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
SCHEMAS: Mapping[str, type[BaseModel]] = {
    "settings": Settings,
    "model": ModelConfig,
    "scope": ScopeConfig,
    "adapter": AdapterConfig,
    "eval": EvalConfig,
    "consolidation": ConsolidationConfig,
}
"""Schemas by the ``kind`` at the top of a file."""

_PARTS = ("model", "scope", "adapter")
_MAX_BYTES = 1 << 20
_SHOWN = 80


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key given twice: the later one would silently win."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if isinstance(key, typing.Hashable) and key in seen:
            raise yaml.MarkedYAMLError(
                problem=f"key {key!r} given twice, first in line {seen[key]}", problem_mark=key_node.start_mark
            )
        seen[key] = line
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping, with the safe loader.

    Raises:
        ConfigError: the file cannot be read, is no UTF-8 or YAML, is over 1 MB, holds a key twice, or is no mapping.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"cannot be read: {error.strerror or error}"], str(path)) from error
    if len(raw) > _MAX_BYTES:
        raise ConfigError([f"has {len(raw)} bytes; a configuration has at most {_MAX_BYTES}"], str(path))
    try:
        data = yaml.load(raw.decode("utf-8-sig"), Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError([f"is not valid YAML: {' '.join(str(error).split())}"], str(path)) from error
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(["must hold a mapping of names to values at the top level"], str(path))
    return data


def validate(schema: type[Model], data: Mapping[str, Any], source: str = "configuration") -> Model:
    """Return ``data`` as an instance of ``schema``.

    Raises:
        ConfigError: listing every problem: where, what, the value seen, and near matches for unknown keys.
    """
    try:
        return schema.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(_problems(schema, error), source) from error


def load_config(path: str | Path) -> BaseModel:
    """Load any shipped or written configuration: its top-level ``kind`` says which schema it follows.

    Raises:
        ConfigError: the file or its values are wrong; every problem is listed.
    """
    data = load_yaml(path)
    kind = data.pop("kind", None)
    if kind not in SCHEMAS:
        seen = "no top-level 'kind'" if kind is None else f"unknown kind {kind!r}{_near(str(kind), SCHEMAS)}"
        raise ConfigError([f"{seen}; known kinds: {', '.join(sorted(SCHEMAS))}"], str(path))
    schema = SCHEMAS[kind]
    if issubclass(schema, Settings):
        return load_settings(path)
    return validate(schema, data, str(path))


def load_settings(path: str | Path | Sequence[str | Path] | None = None, **overrides: Any) -> Settings:
    """Settings from arguments, environment, files and defaults, in this order of precedence.

    Args:
        path: YAML files, the later winning over the earlier: of ``kind: settings``, or of kind model, scope or adapter
            for that part alone; None reads no file.
        **overrides: fields of :class:`Settings`.

    Raises:
        ConfigError: listing every problem of all sources together.
    """
    paths = [path] if isinstance(path, str | Path) else list(path or ())
    problems: list[str] = []
    data = _read_files(paths, problems)
    problems += _misspelt_environment()
    try:
        settings = _settings_class(data)(**overrides)
    except ValidationError as error:
        problems += _problems(Settings, error)
    except ValueError as error:  # an environment variable for a nested part is no JSON
        problems.append(str(error))
    if problems:
        raise ConfigError(problems, ", ".join(map(str, paths)) or "settings")
    return settings


def _read_files(paths: Sequence[str | Path], problems: list[str]) -> dict[str, Any]:
    """Merge files of settings and of parts of them; what cannot be merged is added to ``problems``."""
    merged: dict[str, Any] = {}
    for path in paths:
        data = load_yaml(path)
        kind = data.pop("kind", "settings")
        if kind in _PARTS:
            merged = _merged(merged, {kind: data})
        elif kind == "settings":
            merged = _merged(merged, data)
        else:
            problems.append(f"kind: is {kind!r}; settings are read from files of kind settings, {', '.join(_PARTS)}")
    return merged


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings as one, level by level; where both have a value, the second's counts."""
    result = dict(first)
    for key, value in second.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def _settings_class(file: Mapping[str, Any]) -> type[Settings]:
    """Settings that read ``file`` after the environment."""

    class _FileSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=dict(file))

    return _FileSettings


def _misspelt_environment() -> list[str]:
    """Name environment variables that look like a misspelt setting; others with our prefix are left alone."""
    problems = []
    for variable in sorted(os.environ):
        if not variable.startswith(ENV_PREFIX):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower().split("__")[0]
        close = difflib.get_close_matches(name, list(Settings.model_fields), n=1, cutoff=0.8)
        if close and name not in Settings.model_fields:
            problems.append(f"environment variable {variable}: unknown; did you mean {ENV_PREFIX}{close[0].upper()}?")
    return problems


def _problems(schema: type[BaseModel], error: ValidationError) -> list[str]:
    return [_problem(schema, item) for item in error.errors(include_url=False)]


def _problem(schema: type[BaseModel], item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "top level"
    if item["type"] == "extra_forbidden":
        known = _fields_at(schema, item["loc"][:-1])
        return f"{where}: unknown key{_near(str(item['loc'][-1]), known)}; known: {', '.join(sorted(known))}"
    if item["type"] == "missing":
        return f"{where}: required, but not given"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]} (got {item['input']!r:.{_SHOWN}})"


def _fields_at(schema: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the model that ``loc`` leads to."""
    here: Any = schema
    for part in loc:
        field = here.model_fields.get(part) if _is_model(here) else None
        if field is None:
            return []
        here = next((t for t in _alternatives(field.annotation) if _is_model(t)), None)
    return list(here.model_fields) if _is_model(here) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
