"""The statement that a read becomes: its columns, and what of Spark's filters can be sent along.

A condition that is sent may let more rows through than Spark's own filter, and never fewer: Spark
applies its filters to the rows that come, so that its rules decide. Where PostgreSQL's rules could
let fewer through (an order of texts under a collation, NOT), nothing is sent; nor where the copy
would leave the statement to the source (bytea).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal

_VALUES_MAX = 1000
"""A longer IN list stays in Spark."""

_RANGES = {"<", "<=", ">", ">="}
_TEXT = "string"


def select(relation: str, columns: Sequence[str], conditions: Sequence[str]) -> str:
    """The rows of a relation that satisfy all conditions. No columns: all of them."""
    chosen = ", ".join(quoted(column) for column in columns) or "*"
    words = ["SELECT", chosen, "FROM", relation]
    if conditions:
        words += ["WHERE", " AND ".join(conditions)]
    return " ".join(words)


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def null_condition(column: str, *, null: bool) -> str:
    """Whether a column is NULL, or is not."""
    return f"{quoted(column)} IS {'NULL' if null else 'NOT NULL'}"


def condition(column: str, kind: str, operator: str, values: Sequence[object]) -> str | None:
    """A comparison of a column with a value, or with any of several (`=`); None: not to be sent.

    `kind` is Spark's name of the column's type. A text is compared as text whatever its type is
    at the source (uuid, json, numeric of no declared scale).
    """
    there = [value for value in values if value is not None]
    if not there or len(there) > _VALUES_MAX or (kind == _TEXT and operator in _RANGES):
        return None
    literals = [_literal(value, kind) for value in there]
    if None in literals:
        return None
    if kind == _TEXT:
        # char(n) loses its trailing blanks as a text, and comes to Spark with them.
        bare = [_literal(str(value).rstrip(" "), kind) for value in there]
        literals = list(dict.fromkeys([*literals, *bare]))
    name = f"{quoted(column)}::text" if kind == _TEXT else quoted(column)
    if len(literals) == 1:
        return f"{name} {operator} {literals[0]}"
    assert operator == "=", "only equality is asked for several values"
    return f"{name} IN ({', '.join(text for text in literals if text)})"


def _literal(value: object, kind: str) -> str | None:
    renderer = _RENDERERS.get(kind)
    return renderer(value) if renderer is not None else None


def _boolean(value: object) -> str | None:
    return str(value).lower() if isinstance(value, bool) else None


def _whole(value: object) -> str | None:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _float(value: object) -> str | None:
    return f"'{value!r}'::float8" if isinstance(value, float) else None


def _decimal(value: object) -> str | None:
    number = Decimal(value) if isinstance(value, int) else value
    finite = isinstance(number, Decimal) and number.is_finite()
    return format(number, "f") if finite else None


def _text(value: object) -> str | None:
    if not isinstance(value, str) or "\0" in value:
        return None
    escaped = value.replace("'", "''")
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in value else f"'{escaped}'"


def _date(value: object) -> str | None:
    plain = isinstance(value, date) and not isinstance(value, datetime)
    return f"DATE '{value}'" if plain else None


def _time(value: object) -> str | None:
    return f"TIME '{value.isoformat()}'" if isinstance(value, time) else None


def _timestamp(value: object) -> str | None:
    zoned = isinstance(value, datetime) and value.tzinfo is not None
    return f"TIMESTAMPTZ '{value}'" if zoned else None


def _timestamp_ntz(value: object) -> str | None:
    plain = isinstance(value, datetime) and value.tzinfo is None
    return f"TIMESTAMP '{value}'" if plain else None


_RENDERERS: Mapping[str, Callable[[object], str | None]] = {
    "boolean": _boolean,
    "byte": _whole,
    "short": _whole,
    "integer": _whole,
    "long": _whole,
    "float": _float,
    "double": _float,
    "decimal": _decimal,
    "string": _text,
    "date": _date,
    "time": _time,
    "timestamp": _timestamp,
    "timestamp_ntz": _timestamp_ntz,
}
