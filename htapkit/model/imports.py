"""Iceberg tables that are read here and belong to no source: others wrote them, or a backfill did.

To the planner they are tables of one more source, whose rows all lie in the lake.
"""

from __future__ import annotations

from dataclasses import dataclass

from htapkit.model.archive import ARCHIVE
from htapkit.model.catalog import TableState, TableStatus
from htapkit.model.lake import Boundary, Pin
from htapkit.model.tables import Position, TableId, TableSchema

LAKE = "lake"
"""The source of tables that others wrote: `lake.sales.events`."""

HISTORY = "history"
"""The source of what backfills brought: `history.public.orders`, kept as of `shop.public`."""

IMPORTED = frozenset({LAKE, HISTORY})
"""Names that no configured source may have."""

_FOREVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Import:
    """An Iceberg table of the catalog, and the version of it that is read now."""

    schema: TableSchema  # without a key; `schema.table.source` is LAKE or HISTORY
    identifier: tuple[str, ...]  # in the catalog
    time_column: int  # the ordinal of the one it is partitioned by; 0: there is none
    pin: Pin
    left_out: tuple[str, ...] = ()  # columns of types that cannot be read here
    why: str = ""  # why it cannot be read now

    @property
    def table(self) -> TableId:
        """What it is called here."""
        return self.schema.table

    @property
    def status(self) -> TableStatus:
        """For the planner: all rows lie below a boundary that nothing reaches."""
        state = TableState.SET_ASIDE if self.why else TableState.FOLLOWING
        boundary = Boundary(self.time_column, _FOREVER, self.pin, Position(""))
        return TableStatus(self.schema, state, 0, self.why, boundary=boundary)


def history_of(table: TableId) -> TableId:
    """The table that holds what backfills brought of a mirrored one."""
    return TableId(HISTORY, f"{table.source}.{table.schema}", table.name)


def writer_of(table: TableId) -> str:
    """The source whose changes write a table: of an archive, that of the table it is of."""
    return (origin_of(table) or table).source


def origin_of(table: TableId) -> TableId | None:
    """The mirrored table whose history or archive this is; None of others."""
    source, dot, schema = table.schema.partition(".")
    return (
        TableId(source, schema, table.name) if table.source in {HISTORY, ARCHIVE} and dot else None
    )
