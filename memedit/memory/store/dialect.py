"""What SQLite and PostgreSQL say differently."""

import unicodedata
from typing import Any

from sqlalchemy import ColumnElement, TextClause, bindparam, cast, func, literal_column, text

_COMBINING = "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
"""Combining marks of the scripts that are written with them as accents."""


def fold(value: str | None) -> str | None:
    """Casefold and drop diacritics, for text search."""
    if value is None or value.isascii():
        return value if value is None else value.lower()
    decomposed = unicodedata.normalize("NFKD", value.casefold())
    return "".join(ch for ch in decomposed if not unicodedata.combining(ch))


def folded(dialect: str, column: ColumnElement[Any]) -> ColumnElement[str]:
    """``column`` folded inside the database; in PostgreSQL, whose encoding must be UTF-8 for it."""
    if dialect == "sqlite":
        return func.memedit_fold(column)
    decomposed = func.lower(func.normalize(column, literal_column("NFKD")))
    return func.regexp_replace(decomposed, _COMBINING, "", "g")


def metadata_equals(
    dialect: str, column: ColumnElement[Any], key: str, value: Any, tag: str
) -> ColumnElement[bool] | TextClause:
    """Whether the JSON object in ``column`` has ``value`` (a string, number, boolean or None) under ``key``.

    ``tag`` makes the bound names unique within a statement.
    """
    if dialect == "sqlite":
        types = {bool: "('true','false')", int: "('integer','real')", float: "('integer','real')", str: "('text')"}
        kind = types.get(type(value), "('null')")
        same = "1=1" if value is None else f"j.value = :v{tag}"
        condition = text(
            f"EXISTS (SELECT 1 FROM json_each({column}) j WHERE j.key = :k{tag} AND j.type IN {kind} AND {same})"
        ).bindparams(bindparam(f"k{tag}", key))
        return condition if value is None else condition.bindparams(bindparam(f"v{tag}", value))
    from sqlalchemy.dialects.postgresql import JSONB

    return cast(column, JSONB).contains(cast({key: value}, JSONB))


__all__ = ["fold", "folded", "metadata_equals"]
