"""A copy of a table: all that the node's files have of it, with every time and every tombstone.

The node flushes the table and links its files to a snapshot, which the log's reader prints in the
same lines as the log. Nothing is merged here, for the hot store does that. While it is read, the
log is being followed already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from htapkit.errors import CatalogChanged, SourceRefused, SourceUnavailable, TableSetAside
from htapkit.model import Position, Split, TableId
from htapkit.spi import Discovered
from htapkit_cassandra import folders
from htapkit_cassandra.cells import Collector, Layout
from htapkit_cassandra.mutations import Mutation
from htapkit_cassandra.tail import UNKNOWN_TABLE, Ended, Program, Run

BATCH_ROWS = 50_000
_SILENT_SECONDS_MAX = 600.0


@dataclass(frozen=True, slots=True)
class Asked:
    """How a table's files are read."""

    program: Program
    schema: str  # of the node, for the reader
    jmx_port: int
    rows_per_second_max: int | None


class FilesSnapshot:
    """The spi.Snapshot of tables whose cells may be merged in any order."""

    def __init__(
        self,
        asked: Asked,
        found: Mapping[TableId, Discovered],
        layouts: Mapping[TableId, Layout],
        head: Callable[[], Position],
    ) -> None:
        """`head` gives a position that covers everything acknowledged before it is called."""
        self._asked = asked
        self._layouts = layouts
        self._head = head
        self.tables = found

    @property
    def position(self) -> Position:
        """Where the log ends now: asked after `read`, it covers what was read."""
        return self._head()

    def splits(self, table: TableId) -> Sequence[Split]:
        """One: the node's files of the table."""
        return [Split(table, "", self.tables[table].rows_estimate)]

    def read(self, split: Split) -> Iterator[pa.RecordBatch]:
        """Cells and deletions. Raises TableSetAside, CatalogChanged, SourceError."""
        collector = Collector(self._layouts[split.table])
        begun, count, size = time.monotonic(), 0, 0
        for mutation in self._mutations(split.table):
            try:
                for change in mutation.changes:
                    collector.take(change)
            except ValueError as error:
                raise TableSetAside(split.table, f"it cannot be held: {error}") from error
            size += mutation.size
            if collector.count >= BATCH_ROWS or size >= self._asked.program.queue_bytes_max:
                count, size = count + collector.count, 0
                yield from _batches(collector)
                self._pace(begun, count)
        yield from _batches(collector)

    def _pace(self, begun: float, count: int) -> None:
        """Wait where the limit wants it: the reader then waits for its pipe."""
        if self._asked.rows_per_second_max is not None:
            due = begun + count / self._asked.rows_per_second_max
            time.sleep(max(0.0, due - time.monotonic()))

    def _mutations(self, table: TableId) -> Iterator[Mutation]:
        program = self._asked.program
        folder = folders.fresh(program.folder, f"copy-{table.schema}.{table.name}")
        try:
            schema = folder / "schema.json"
            schema.write_text(self._asked.schema, encoding="utf-8")
            tag = f"htapkit-{table.source}-{table.name}"
            copied = [table.schema, table.name, tag, str(self._asked.jmx_port)]
            run = Run(program.command(schema, None, copied), program.queue_bytes_max)
            try:
                while not isinstance(event := _event(run, table), Ended):
                    if isinstance(event, SourceRefused):
                        raise event
                    if isinstance(event, Mutation):
                        yield event
            finally:
                run.stop()
        finally:
            folders.remove(folder)
        if event.code == UNKNOWN_TABLE:
            raise CatalogChanged(f"{table} is gone: {event.said}")
        if event.code:
            raise SourceUnavailable(f"{table} cannot be copied: {event.said}")

    def close(self) -> None:
        """Each read clears its own snapshot at the node."""


def _event(run: Run, table: TableId) -> object:
    event = run.events.get(_SILENT_SECONDS_MAX)
    if event is None:
        raise SourceUnavailable(f"copying {table}: nothing came for {_SILENT_SECONDS_MAX:g} s")
    return event


def _batches(collector: Collector) -> Iterator[pa.RecordBatch]:
    changes = collector.changes()
    for batch in (changes.cells, changes.deletions):
        if batch.num_rows:
            yield batch
