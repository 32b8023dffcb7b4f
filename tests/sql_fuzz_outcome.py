"""What a server said to a statement, byte for byte, and what two servers said differently."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import pq

from tests.sql_fuzz_words import Query

_OPEN = ("sum(", "avg(", "stddev(", "var_pop(", "distinct", "group by", "min(", "max(", "union")
_FLOATS = frozenset({700, 701})
_OF_VALUES = frozenset({"22003", "22008", "22012"})  # out of range, division by zero
_SPARING = ("(SELECT", "LIMIT", "LEFT JOIN", "RIGHT JOIN")
"""PostgreSQL leaves open whether what decides about no row is computed: it may fail there."""
_NOT_HOT = "0A000"
Row = tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An error's SQLSTATE, or columns and rows."""

    sqlstate: str
    message: str
    columns: tuple[tuple[bytes, int, int], ...]
    rows: tuple[Row, ...]


def run(
    connection: psycopg.Connection, query: Query, *, simple: bool, binary: bool = False
) -> Outcome:
    """Execute it by the simple or the extended protocol."""
    raw = connection.pgconn
    text, values = query.sql.encode(), query.values
    if simple:
        result = raw.exec_(text)
    else:
        result = raw.exec_params(
            text, values.values, values.oids, values.formats, pq.Format(int(binary))
        )
    if result.status == pq.ExecStatus.TUPLES_OK:
        columns = tuple(
            (result.fname(i) or b"", result.ftype(i), result.fmod(i)) for i in range(result.nfields)
        )
        rows = tuple(
            tuple(result.get_value(r, c) for c in range(result.nfields))
            for r in range(result.ntuples)
        )
        return Outcome("", "", columns, rows)
    state = result.error_field(pq.DiagnosticField.SQLSTATE) or b"?"
    return Outcome(state.decode(), result.error_message.decode(errors="replace").strip(), (), ())


def refused(outcome: Outcome) -> bool:
    """Whether `htapkit.route = 'hot'` could not answer."""
    return outcome.sqlstate == _NOT_HOT


def difference(query: Query, theirs: Outcome, ours: Outcome) -> str:
    """What `ours` has not as `theirs`; "" = nothing."""
    if theirs.sqlstate != ours.sqlstate:
        spared = any(word in query.sql for word in _SPARING)
        if theirs.sqlstate in _OF_VALUES and not ours.sqlstate and spared:
            return ""
        return f"SQLSTATE {theirs.sqlstate or 'none'}, ours {ours.sqlstate or 'none'}: " + (
            theirs.message or ours.message
        )
    if not _same_columns(theirs, ours):
        return f"columns {theirs.columns}, ours {ours.columns}"
    if theirs.rows == ours.rows:
        return ""
    if Counter(theirs.rows) != Counter(ours.rows):
        if _close(query, theirs, ours):
            return ""
        missing = list((Counter(theirs.rows) - Counter(ours.rows)).elements())[:3]
        more = list((Counter(ours.rows) - Counter(theirs.rows)).elements())[:3]
        count = f"{len(theirs.rows)} rows, ours {len(ours.rows)}"
        return f"{count}\n  only theirs {missing}\n  only ours   {more}"
    if query.total and not _sorted_alike(theirs, ours):
        pairs = enumerate(zip(theirs.rows, ours.rows, strict=True))
        at = next(i for i, (x, y) in pairs if _key(x) != _key(y))
        return f"order\n  theirs {theirs.rows[at : at + 3]}\n  ours   {ours.rows[at : at + 3]}"
    return ""


def _same_columns(theirs: Outcome, ours: Outcome) -> bool:
    """Equal, but for modifiers that only PostgreSQL's optimizer adds, after Describe."""
    return [(n, o) for n, o, _ in theirs.columns] == [(n, o) for n, o, _ in ours.columns] and all(
        mine[2] in {-1, his[2]} for mine, his in zip(ours.columns, theirs.columns, strict=True)
    )


def _close(query: Query, theirs: Outcome, ours: Outcome) -> bool:
    """Equal but for what PostgreSQL leaves open: last digits of float sums, which zero is kept."""
    text = query.sql.lower()
    if not any(word in text for word in _OPEN):
        return False
    floats = [oid in _FLOATS for _, oid, _ in theirs.columns]
    if not any(floats):
        return False
    return Counter(_rounded(theirs.rows, floats)) == Counter(_rounded(ours.rows, floats))


def _rounded(rows: Sequence[Row], floats: Sequence[bool]) -> list[Row]:
    return [
        tuple(
            f"{float(v) + 0.0:.9g}".encode() if is_float and v is not None else v
            for v, is_float in zip(row, floats, strict=True)
        )
        for row in rows
    ]


def _sorted_alike(theirs: Outcome, ours: Outcome) -> bool:
    """Equal but for rows that ORDER BY holds equal though their text differs, as 0 and -0."""
    return [_key(row) for row in theirs.rows] == [_key(row) for row in ours.rows]


def _key(row: Row) -> tuple[object, ...]:
    return tuple(_value(v) for v in row)


def _value(value: bytes | None) -> object:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        return value.rstrip(b" ")
    return "NaN" if math.isnan(number) else number  # NaN is not equal to itself
