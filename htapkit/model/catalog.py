"""What there is to read, and where: table states, the catalog, routes, findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from htapkit.model.lake import Boundary, Horizon
from htapkit.model.tables import Position, TableId, TableSchema


class TableState(StrEnum):
    """What the mirror is doing with a table."""

    COPYING = "copying"  # the copy is being made; changes are kept aside until it is done
    FOLLOWING = "following"  # exact at the source's applied position
    PAUSED = "paused"  # by the user; changes are kept aside
    SET_ASIDE = "set_aside"  # cannot be followed; see why


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A table as the hot store has it."""

    schema: TableSchema
    state: TableState
    rows: int  # at the last count: an estimate between commits
    why: str = ""
    position: Position | None = None  # the last good one, where the table does not follow
    copy_position: Position | None = None  # commits covered by this position are in the copy
    boundary: Boundary | None = None  # None: all of it is hot
    horizon: Horizon | None = None  # None: no row is too old to be kept


@dataclass(frozen=True, slots=True)
class Catalog:
    """What can be read locally at this moment, for the planner.

    Immutable; a change makes a new one.
    """

    version: int
    tables: Mapping[TableId, TableStatus] = field(default_factory=dict)
    imported: Mapping[TableId, TableStatus] = field(default_factory=dict)  # the lake's own

    def status(self, table: TableId) -> TableStatus | None:
        """A table, mirrored or imported."""
        return self.tables.get(table) or self.imported.get(table)

    def readable(self, table: TableId) -> TableSchema | None:
        """The schema of a table that is exact at its source's position, else None."""
        status = self.status(table)
        return status.schema if status and status.state is TableState.FOLLOWING else None


@dataclass(frozen=True, slots=True)
class Split:
    """A unit of parallel bulk read. `token` is the connector's own."""

    table: TableId
    token: str
    rows_estimate: int


class Severity(StrEnum):
    """How much a finding of the preflight matters."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the preflight: what was looked at, what was found, and the SQL that mends it."""

    severity: Severity
    subject: str
    message: str
    remedy: str = ""


class Route(StrEnum):
    """Where a statement is answered."""

    HOT = "hot"
    LAKE = "lake"
    UNION = "union"
    SOURCE = "source"
    SPARK = "spark"  # the lake, read by a Spark


@dataclass(frozen=True, slots=True)
class Access:
    """The columns that a statement reads of a table: what the role must be allowed to SELECT."""

    table: TableId
    columns: frozenset[str]
