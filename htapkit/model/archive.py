"""Archives: what a source deleted of a table stays, as a table beside the mirrored one.

To the planner they are tables of one more source, called `archive`. An archive has the columns of
its table, and those that its table had before; then two of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from htapkit.model.tables import Column, SqlType, TableId, TableSchema

ARCHIVE = "archive"
"""The source of archives: `archive.public.orders`, kept as of `shop.public`."""

DELETED_AT = "htapkit_deleted_at"
NUMBER = "htapkit_number"
OWN_COLUMNS = frozenset({DELETED_AT, NUMBER})
"""What an archive has besides the columns of its table."""

_RETIRED = 1_000_000  # ordinals of columns that the table no longer has; PostgreSQL's end at 1600
_OWN = (
    Column(DELETED_AT, SqlType("timestamptz", 1184), 2_000_000),
    Column(NUMBER, SqlType("int8", 20), 2_000_001, nullable=False),
)


def archive_of(table: TableId) -> TableId:
    """The archive of a mirrored table."""
    return TableId(ARCHIVE, f"{table.source}.{table.schema}", table.name)


def archive_schema(table: TableSchema, retired: Iterable[Column] = ()) -> TableSchema:
    """What the archive of a table looks like; `retired` are columns that the table had before."""
    columns = (*(replace(c, nullable=True) for c in table.columns), *retired, *_OWN)
    return TableSchema(archive_of(table.table), columns, (NUMBER,))


def retire(
    archive: TableSchema, table: TableSchema, gone: frozenset[int]
) -> tuple[TableSchema, dict[str, str]]:
    """The archive before it follows its table, and its columns that get another name (from, to).

    Columns with the ordinals `gone` keep their values, apart from what the table has now.
    """
    now = {c.name.lower() for c in table.columns}
    taken = now | {c.name.lower() for c in archive.columns}
    last = max((c.ordinal for c in retired_columns(archive)), default=_RETIRED)
    kept: list[Column] = []
    named: dict[str, str] = {}
    for column in archive.columns:
        name, ordinal = column.name, column.ordinal
        if ordinal in gone:
            last += 1
            ordinal = last
        if _is_retired(ordinal) and name.lower() in now:
            name = named[column.name] = _free(f"{name}_{column.type.name}", taken)
            taken.add(name.lower())
        kept.append(replace(column, name=name, ordinal=ordinal))
    return replace(archive, columns=tuple(kept)), named


def retired_columns(archive: TableSchema) -> tuple[Column, ...]:
    """The columns of an archive that its table no longer has."""
    return tuple(c for c in archive.columns if _is_retired(c.ordinal))


def _is_retired(ordinal: int) -> bool:
    return _RETIRED < ordinal < _OWN[0].ordinal


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name.lower() in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name
