"""How a relation follows a faithful change of its table's schema.

Pure. A value is at most widened.
"""

from __future__ import annotations

import pyarrow as pa

from htapkit.hot.collapse import NotConsistent
from htapkit.hot.names import clash, duckdb_type, quote
from htapkit.model import Column, TableSchema

_WIDER = {
    (pa.int16(), pa.int32()),
    (pa.int16(), pa.int64()),
    (pa.int32(), pa.int64()),
    (pa.float32(), pa.float64()),
}


def alterations(relation: str, old: TableSchema, new: TableSchema) -> list[str]:
    """ALTER statements that make a relation of `old` one of `new`; columns are told by ordinal.

    Raises NotConsistent where only a new copy is exact.
    """
    if problem := clash(new, ()):
        raise NotConsistent(problem)
    if (old.whole_rows, old.append_only, bool(old.key)) != (
        new.whole_rows,
        new.append_only,
        bool(new.key),
    ):
        raise NotConsistent("what identifies its rows changed")
    before = {c.ordinal: c for c in old.columns}
    after = {c.ordinal: c for c in new.columns}
    if not before.keys() & after.keys():
        raise NotConsistent("no column was kept")
    alter = f"ALTER TABLE {relation}"
    result: list[str] = []
    renamed: list[tuple[str, str]] = []
    for ordinal, column in before.items():
        if ordinal in after and after[ordinal].name != column.name:
            # By way of a name that no column has: names may be swapped.
            between = f"{column.name}${ordinal}${'_' * 64}"
            result.append(f"{alter} RENAME COLUMN {quote(column.name)} TO {quote(between)}")
            renamed.append((between, after[ordinal].name))
    result += [f"{alter} DROP COLUMN {quote(c.name)}" for o, c in before.items() if o not in after]
    result += [
        f"{alter} RENAME COLUMN {quote(between)} TO {quote(name)}" for between, name in renamed
    ]
    for ordinal, column in after.items():
        if ordinal not in before:
            result.append(f"{alter} ADD COLUMN {quote(column.name)} {duckdb_type(column)}")
        elif duckdb_type(column) != duckdb_type(before[ordinal]):
            _check_wider(before[ordinal], column)
            result.append(f"{alter} ALTER COLUMN {quote(column.name)} TYPE {duckdb_type(column)}")
    return result


def check_same_key(old: TableSchema, new: TableSchema) -> None:
    """Raise NotConsistent when other columns than before identify a row; names may change."""
    keys = [{c.ordinal for c in schema.key_columns} for schema in (old, new)]
    if keys[0] != keys[1]:
        raise NotConsistent("other columns than before identify its rows")


def widens(old: Column, new: Column) -> bool:
    """Whether a column's type takes in every value of the former one as it is."""
    was, now = old.arrow, new.arrow
    decimals = pa.types.is_decimal128(was) and pa.types.is_decimal128(now)
    if decimals and was.scale == now.scale and was.precision <= now.precision:
        return True
    return (was, now) in _WIDER


def _check_wider(old: Column, new: Column) -> None:
    if not widens(old, new):
        raise NotConsistent(
            f"column {new.name} changed from {old.type.name} to {new.type.name}, "
            "which only a new copy holds exactly"
        )
