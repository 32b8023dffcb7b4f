"""Parameters of a statement for Spark: their values stand in its text, as constants of their types.

`$1` in the text of a SparkQuery is the first of LocalQuery.parameters. Texts with a `$` in them are
written in another way there (`spark_types.text_literal`), and names stand in backticks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from htapkit.model import SqlType
from htapkit.plan.plan import Parameter
from htapkit.plan.spark_types import INTEGERS, text_literal
from htapkit.plan.unproven import UnprovenError

_PIECES = re.compile(r"`[^`]*`|'[^']*'|\$(\d+)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def bound(sql: str, parameters: Sequence[Parameter], values: Sequence[object]) -> str:
    """The text with its values. Raises UnprovenError where Spark has no constant for one."""

    def exchanged(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        at = int(found[1]) - 1
        return _constant(parameters[at].type, values[at])

    return _PIECES.sub(exchanged, sql)


def _constant(type_: SqlType, value: object) -> str:
    """The value; it stands in a cast to its type."""
    if value is None:
        return "NULL"
    make = _MADE.get(type_.name)
    made = make(value) if make is not None else None
    if made is None:
        raise UnprovenError(
            f"a parameter of type {type_.name}", "has a value that Spark is not given"
        )
    return made


def _integer(value: object) -> str | None:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _exact(value: object) -> str | None:
    return f"'{value:f}'" if isinstance(value, Decimal) and value.is_finite() else None


def _boolean(value: object) -> str | None:
    return str(value).upper() if isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return text_literal(value) if isinstance(value, str) else None


def _date(value: object) -> str | None:
    if not isinstance(value, date) or isinstance(value, datetime):
        return None
    return f"date_from_unix_date({(value - _EPOCH.date()).days})"


def _timestamptz(value: object) -> str | None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    return f"timestamp_micros({(value - _EPOCH) // timedelta(microseconds=1)})"


def _timestamp(value: object) -> str | None:
    if not isinstance(value, datetime) or value.tzinfo is not None:
        return None
    return f"CAST({_timestamptz(value.replace(tzinfo=UTC))} AS TIMESTAMP_NTZ)"


_MADE: Mapping[str, Callable[[object], str | None]] = {
    **dict.fromkeys(INTEGERS, _integer),
    "numeric": _exact,
    "bool": _boolean,
    "text": _text,
    "varchar": _text,
    "date": _date,
    "timestamptz": _timestamptz,
    "timestamp": _timestamp,
}
