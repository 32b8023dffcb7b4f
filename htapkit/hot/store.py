"""The hot store: the exact, columnar copy in one DuckDB file. See README.md for what it promises.

This module is the door; what is behind it: `core` (lock, transactions, recovery), `applier`
(changes into tables), `copying` (new copies), `reads`, `upkeep`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from htapkit.errors import StoreError
from htapkit.hot.applier import Covers
from htapkit.hot.archives import Archives
from htapkit.hot.backup import Copied, copy_out
from htapkit.hot.copying import Copying
from htapkit.hot.core import Clock, Core
from htapkit.hot.database import Database, is_fatal
from htapkit.hot.export import Export
from htapkit.hot.imports import Imports
from htapkit.hot.journal import Journal
from htapkit.hot.lakearms import LakeArm
from htapkit.hot.lakerows import LakeReader, local_path
from htapkit.hot.leases import Lease, Leases, Parted
from htapkit.hot.limits import HotLimits
from htapkit.hot.moment import Moment
from htapkit.hot.progress import Applied
from htapkit.hot.reads import Asked, Read, Reads
from htapkit.hot.retention import Retention
from htapkit.hot.runs import Cut
from htapkit.hot.stream import Stream
from htapkit.hot.tables import Tables
from htapkit.hot.tiering import Tiering
from htapkit.hot.upkeep import Upkeep
from htapkit.hot.workers import Workers
from htapkit.model import (
    Catalog,
    ChangeBatch,
    Horizon,
    LakeFiles,
    Pin,
    Position,
    RowChanges,
    SchemaChange,
    TableId,
    TableSchema,
    TableState,
    TieringRun,
)

_FINISH_SECONDS = 60.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class HotStore:
    """The copy. Thread-safe; one process owns the file."""

    archives: Archives
    """What the sources delete, where it is kept."""
    imports: Imports
    """Iceberg tables that are read besides."""
    journal: Journal
    """What becomes of the rows of reconciled tables, for those who are sent it."""

    def __init__(
        self,
        path: Path,
        limits: HotLimits | None = None,
        *,
        clock: Clock = _utc_now,
        warehouse: str = "",
        lake: LakeReader | None = None,
    ) -> None:
        """Open or create the file. Raises StoreLocked, StoreFailed, StoreError.

        `warehouse` is the folder (a path or a `file:` URI) from which statements may read Parquet
        files, `lake` what finds them for changes that left values out; without them, nothing can
        be read of tables that are partly in the lake.
        """
        folder = Path(local_path(warehouse))
        allowed = folder if folder.is_absolute() else None
        self._core = Core(Database(path, limits or HotLimits(), allowed), clock, lake)
        self._reads = Reads(self._core, self._read_failed)
        self._leases = Leases(self._core, self._reads)
        self._core.before_reopen = lambda: self._reads.break_off("the hot store is opened again")
        self._copying = Copying(self._core)
        self._upkeep = Upkeep(self._core)
        self._workers = Workers(self._core)
        self._tables = Tables(self._core, self._copying)
        self._stream = Stream(self._core, self._upkeep)
        self._tiering = Tiering(self._core)
        self._retention = Retention(self._core)
        self.archives = Archives(self._core)
        self.imports = Imports(self._core)
        self.journal = Journal(self._core)

    # -- what can be read, and how far it is

    @property
    def catalog(self) -> Catalog:
        """What can be read now; a new object after each change."""
        return self._core.catalog

    def applied(self, source: str) -> Applied:
        """How far a source is applied, also by batches that only moved the position."""
        return self._core.progress.applied(source)

    def on_applied(self, callback: Callable[[str, Applied], None]) -> None:
        """Call `callback` after each move, in the thread that applied; it must be quick."""
        self._core.progress.watch(callback)

    def wait_applied(
        self, source: str, predicate: Callable[[Applied], bool], timeout_seconds: float
    ) -> bool:
        """Wait until `predicate` holds; whether it does. No I/O in `predicate`."""
        return self._core.progress.wait(source, predicate, timeout_seconds)

    def read(
        self,
        sql: str,
        parameters: Sequence[object] = (),
        *,
        sources: Sequence[str] = (),
        catalog_version: int | None = None,
        lake: Sequence[LakeArm] = (),
        given: Mapping[str, pa.Table] = MappingProxyType({}),
    ) -> Read:
        """Start a statement in one snapshot; its positions are those of the rows it returns.

        Each arm is a view for this statement: the rows of its files, in the table's columns, less
        those that have ended, or that a tombstone of the same snapshot covers. Its files must be of
        the pin of `catalog_version`. `given` are relations that are in no file. Raises
        LimitReached, CatalogChanged (tables changed since `catalog_version`), QueryFailed,
        StoreFailed, LakeFailed.
        """
        return self._reads.open(Asked(sql, parameters, lake, given), sources, catalog_version)

    @property
    def read_at(self) -> float:
        """When (monotonic clock) somebody last began to read."""
        return self._reads.begun_at

    def lease(self, statement: Parted, parts_max: int) -> Lease | None:
        """Begin reads of parts of one table, all of one moment; each is run when it is wanted.

        None: there is only one part, or room for one. Raises CatalogChanged, QueryFailed,
        StoreFailed, LakeFailed.
        """
        return self._leases.open(statement, parts_max)

    def moment(self) -> Moment:
        """Begin to read any number of tables as of now, for a job. Raises StoreFailed."""
        return Moment(self._core, self._reads)

    # -- the stream

    def stored_position(self, source: str) -> Position | None:
        """The position in the file: a stream must start right after it."""
        return self._core.progress.stored(source)[0]

    def apply(self, batch: ChangeBatch, covers: Covers) -> Position | None:
        """Bring in a batch: all of it, with its position, in one transaction.

        The position that is durable now, or None: the batch only moved the position in memory, or
        it is a part of a large transaction. Raises StoreFailed or TableSetAside when a large
        transaction was lost with its earlier parts, LimitReached (nothing was done; try again
        later): in each case start the stream again from `stored_position`.
        """
        return self._stream.apply(batch, covers)

    def abort(self, source: str) -> None:
        """Give up a large transaction whose stream broke. Safe when there is none."""
        self._stream.abort(source)

    def forget_position(self, source: str) -> None:
        """The next stream begins anew; the caller has the tables that follow copied again."""
        self._tables.forget_position(source)

    def identity(self, source: str) -> str | None:
        """What `remember_identity` stored: which server the copy was made from."""
        return self._tables.identity(source)

    def remember_identity(self, source: str, identity: str) -> None:
        """Store which server the copy is made from."""
        self._tables.remember_identity(source, identity)

    # -- tables

    def add_table(self, schema: TableSchema, fingerprint: str, why: str = "") -> None:
        """Know a table (or know it anew): it waits for a copy, and its changes are kept aside."""
        self._tables.add_table(schema, fingerprint, why)

    def copy_again(self, table: TableId, why: str) -> None:
        """The table waits for a new copy; what is staged and a copy in progress are given up."""
        self._tables.copy_again(table, why)

    def start_copy(self, schema: TableSchema, fingerprint: str, position: Position) -> None:
        """Begin a copy of rows at `position`; staged commits that it covers will be dropped.

        Raises TableSetAside.
        """
        self._copying.start(schema, fingerprint, position)

    def load(self, table: TableId, batches: Iterable[pa.RecordBatch]) -> int:
        """Add rows to the copy, all or none; how many. Several threads may do so at once.

        Raises TableSetAside, CatalogChanged (the copy was given up meanwhile), StoreFailed.
        """
        return self._copying.loading.load(table, batches)

    def finish_copy(
        self, table: TableId, covers: Covers, timeout_seconds: float = _FINISH_SECONDS
    ) -> None:
        """Replay what was kept aside, swap the copy in, follow. A paused table resumes.

        Raises Stale (the source is not yet applied up to the copy's position; nothing is lost),
        TableSetAside, CatalogChanged, StoreFailed.
        """
        self._copying.finish(table, covers, timeout_seconds)

    @property
    def copying(self) -> Copying:
        """What makes copies, for those that are made range by range."""
        return self._copying

    def set_state(self, table: TableId, state: TableState, why: str) -> None:
        """Pause a table, set it aside, have it copied again; FOLLOWING resumes a paused one."""
        self._tables.set_state(table, state, why)

    def correct(self, changes: RowChanges, schema: TableSchema) -> None:
        """Change rows of a paused table, as the source had them where the table was paused.

        Raises CatalogChanged (it is not paused, or has other columns), StoreFailed. A table whose
        rows are not there as `changes` says is copied again.
        """
        self._tables.correct(changes, schema)

    def change_schema(self, change: SchemaChange, fingerprint: str | None = None) -> None:
        """Follow a change of the schema that the stream has not shown; copy again if need be."""
        self._tables.change_schema(change, fingerprint)

    def keep_as_text(self, table: TableId, column: str) -> None:
        """The next copies of the table keep this column as PostgreSQL prints it."""
        self._tables.keep_as_text(table, column)

    def text_columns(self, table: TableId) -> frozenset[str]:
        """The columns that `keep_as_text` named."""
        return self._tables.text_columns(table)

    def fingerprint(self, table: TableId) -> str:
        """The fingerprint with which the table was copied."""
        return self._tables.fingerprint(table)

    def drop_table(self, table: TableId) -> None:
        """Forget a table and its rows. What was archived of it stays."""
        self._tables.drop_table(table)

    def drop_source(self, source: str) -> None:
        """Forget a source with all its tables."""
        self._tables.drop_source(source)

    # -- the lake

    def use_lake(self, lake: LakeReader) -> None:
        """Where values of rows in the lake are looked up from now on."""
        self._core.lake_values.reader = lake

    def begin_run(
        self, run_id: str, below: Mapping[TableId, int], columns: Mapping[TableId, int]
    ) -> Export:
        """Begin to move the line of some tables of one source; equal to the old line is a fold.

        `below` is the new line of each table (microseconds), `columns` the ordinal of its time
        column. From now on the run is in the file, and the keys that change are logged. Waits
        until no large transaction of the source is open. Raises CatalogChanged (a table does not
        follow now), TableSetAside, StoreError (no key, no time column, a line that would move
        back, a table that is in another run), StoreFailed.
        """
        return self._tiering.begin(run_id, below, columns)

    def runs(self) -> tuple[TieringRun, ...]:
        """All runs that are neither finished nor dropped, oldest first."""
        return self._tiering.runs()

    def finish_run(self, run_id: str, pins: Mapping[TableId, Pin]) -> None:
        """The lake has what was exported: rows leave, boundaries and pins flip, in one transaction.

        Rows that changed since the export stay, and their keys are the new tombstones. Raises
        CatalogChanged when the run is void or unknown (drop it), StoreFailed.
        """
        self._tiering.finish(run_id, pins)

    def drop_run(self, run_id: str) -> None:
        """Give a run up: nothing of it happened. Safe when there is none."""
        self._tiering.drop(run_id)

    def patches(self, table: TableId) -> tuple[int, int]:
        """(tombstones, hot rows below the boundary): what a fold would bring into the lake."""
        return self._tiering.patches(table)

    def lake_digest(
        self,
        schema: TableSchema,
        files: LakeFiles,
        column: int,
        lower: int | None,
        upper: int | None,
        without: pa.Table | None = None,
    ) -> tuple[int, int]:
        """(rows, digest) of the lake's rows with a time in [lower, upper), as `Export.digest`.

        `column` is the ordinal of the time column, `without` has keys to leave out. Tombstones do
        not count here. Raises LakeFailed.
        """
        return self._tiering.lake_digest(schema, files, column, lower, upper, without)

    def cuts(self, source: str) -> tuple[Cut, ...]:
        """What the lake had of a source's tables right after each finished run, oldest first."""
        return self._tiering.cuts(source)

    def drop_cuts(self, source: str, before: datetime) -> None:
        """Forget the cuts that are older than `before`."""
        self._tiering.drop_cuts(source, before)

    def set_pin(self, table: TableId, old: Pin, new: Pin) -> None:
        """Read another version, which has the same rows. Raises CatalogChanged if not at `old`."""
        self._tiering.set_pin(table, old, new)

    def drop_boundary(self, table: TableId, why: str) -> None:
        """Forget what the lake has of a table: unless that is no row, it is copied again."""
        self._tiering.drop_boundary(table, why)

    def retain(self, table: TableId, horizon: Horizon) -> int:
        """Keep no row whose time lies below the horizon, from now on; how many left the hot store.

        The same transaction hides them in the lake; later changes that lie below it are not taken
        in. A horizon that is not above the present one changes nothing. Raises CatalogChanged (the
        table does not follow now), StoreError (it was cut by another column), StoreFailed.
        """
        return self._retention.retain(table, horizon)

    def copy_from(self, table: TableId, horizon: Horizon | None, why: str) -> None:
        """`copy_again`, of the rows above another horizon (None: of all)."""
        self._retention.copy_again(table, horizon, why)

    def forget_past(self, table: TableId) -> None:
        """Forget all cuts of a table but those of the version that is read now."""
        self._tiering.forget_past(table)

    def rewrite(self, table: TableId) -> None:
        """Write a table's rows anew, so that the file's blocks have no former ones of it."""
        self._upkeep.rewrite(table)

    def maintain(self) -> None:
        """In a quiet moment: checkpoint, write churned tables in order, adjust DuckDB's threads."""
        self._workers.adjust(self._upkeep.apply_seconds)
        self._upkeep.maintain()

    def sizes(self) -> Mapping[str, float]:
        """Plain numbers for metrics and status."""
        return {**self._upkeep.sizes(), "reads": self._reads.active, "leases": self._leases.active}

    def copy_to(self, path: Path, told: Callable[[int], None] = lambda _: None) -> Copied:
        """Write what is committed now to a new file, as a store of its own; nobody waits for it.

        `told` hears of the rows so far. Raises StoreError.
        """
        return copy_out(self._core.database, path, told)

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        self._leases.close()
        self._reads.close()
        self._core.close()

    def __enter__(self) -> HotStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_failed(self, error: BaseException) -> None:
        with self._core.lock:
            if not self._core.failed and is_fatal(error) and not self._core.closed:
                try:
                    self._core.recover(error)
                except StoreError:
                    return  # the reader gets its own error; writers try to open again
