"""Archives: what a source deleted of a table stays, as a table beside the mirrored one.

To the planner they are tables of one more source, called `archive`. An archive has the columns of
its table, and those that its table had before; then two of its own.
"""

from __future__ import annotations

from dataclasses import replace

from htapkit.model.tables import Column, SqlType, TableId, TableSchema

ARCHIVE = "archive"
"""The source of archives: `archive.public.orders`, kept as of `shop.public`."""

DELETED_AT = "htapkit_deleted_at"
NUMBER = "htapkit_number"
OWN_COLUMNS = frozenset({DELETED_AT, NUMBER})
"""What an archive has besides the columns of its table."""

_FIRST_FREE = 1_000_001  # ordinals that no table has; PostgreSQL's end at 1600
_FOLLOWS_NONE = 0
_OWN = (
    Column(DELETED_AT, SqlType("timestamptz", 1184), 2_000_000),
    Column(NUMBER, SqlType("int8", 20), 2_000_001, nullable=False),
)


def archive_of(table: TableId) -> TableId:
    """The archive of a mirrored table."""
    return TableId(ARCHIVE, f"{table.source}.{table.schema}", table.name)


def archive_schema(table: TableSchema, archive: TableSchema | None = None) -> TableSchema:
    """What the archive of a table looks like; `archive` is what it was, after `retire`.

    A column keeps its ordinal for ever, whatever becomes of it: it is that of the table's column,
    unless the archive has another column under it. `Column.follows` says which one it follows then.
    """
    former = archive.columns if archive is not None else ()
    taken = {c.ordinal for c in former}
    ordinals = {followed(c): c.ordinal for c in former}
    free = max((o for o in taken if o < _OWN[0].ordinal), default=0)
    columns = []
    for column in table.columns:
        ordinal = ordinals.get(column.ordinal)
        if ordinal is None:
            ordinal = column.ordinal
            if ordinal in taken:
                ordinal = free = max(free + 1, _FIRST_FREE)
        follows = None if ordinal == column.ordinal else column.ordinal
        columns.append(replace(column, nullable=True, ordinal=ordinal, follows=follows))
    retired = retired_columns(archive) if archive is not None else ()
    return TableSchema(archive_of(table.table), (*columns, *retired, *_OWN), (NUMBER,))


def retire(
    archive: TableSchema, table: TableSchema, gone: frozenset[int]
) -> tuple[TableSchema, dict[str, str]]:
    """The archive before it follows its table, and its columns that get another name (from, to).

    Columns with the ordinals `gone` keep their values, apart from what the table has now.
    """
    now = {c.name.lower() for c in table.columns}
    taken = now | {c.name.lower() for c in archive.columns}
    kept: list[Column] = []
    named: dict[str, str] = {}
    for column in archive.columns:
        found = replace(column, follows=_FOLLOWS_NONE) if column.ordinal in gone else column
        if _is_retired(found) and found.name.lower() in now:
            name = named[column.name] = _free(f"{column.name}_{column.type.name}", taken)
            taken.add(name.lower())
            found = replace(found, name=name)
        kept.append(found)
    return replace(archive, columns=tuple(kept)), named


def followed(column: Column) -> int | None:
    """The ordinal of the table's column that a column of its archive follows; None: of none."""
    if column.follows is not None:
        return column.follows or None
    # Older files gave another ordinal to a column that the table lost.
    return column.ordinal if column.ordinal < _FIRST_FREE else None


def retired_columns(archive: TableSchema) -> tuple[Column, ...]:
    """The columns of an archive that its table no longer has."""
    return tuple(c for c in archive.columns if _is_retired(c))


def _is_retired(column: Column) -> bool:
    return followed(column) is None and column.name not in OWN_COLUMNS


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name.lower() in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name
