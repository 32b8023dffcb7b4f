"""One node's log as a stream of batches: what is synced, in the log's order, with a place for each.

Cells carry their own times, so the core takes them in any order; a batch is only as much as was
there. It never guesses: what cannot be decoded breaks its table, by name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from htapkit.model import Broken, Change, ChangeBatch, Position, TableId, TableSchema
from htapkit_cassandra import marks
from htapkit_cassandra.catalog import Known
from htapkit_cassandra.cells import Collector, Layout
from htapkit_cassandra.marks import Marks
from htapkit_cassandra.mutations import LogChange, LogEvent, LogPosition, LogTable, Mutation, Ready
from htapkit_cassandra.positions import Reached, reached
from htapkit_cassandra.tail import LogTail, behind, forget

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Following:
    """What a stream is given."""

    source: str
    node: str  # its host id
    cdc_raw: Path
    deletes_files: bool
    batch_rows_max: int
    batch_bytes_max: int


class LogStream:
    """The spi.ChangeStream over one node's log; also spi.Queues."""

    def __init__(
        self,
        following: Following,
        tail: LogTail,
        start: Reached,
        marks_: Marks,
        layouts: Callable[[], Mapping[TableId, Layout]],
        known: Callable[[TableId], Known | None],
    ) -> None:
        """`layouts` asks the node for its tables; `known` is what was last found of one."""
        self._following = following
        self._tail = tail
        self._reached = start
        self._marks = marks_
        self._layouts = layouts
        self._known = known
        self._tables: dict[str, LogTable] = {}
        self._collectors: dict[TableId, Collector] = {}
        self._broken: list[Change] = []
        self._dropped = 0  # how many dropped tables the log's reader has met
        self._begun = False

    def next(self, timeout_seconds: float) -> ChangeBatch | None:
        """What has been read, or None when nothing came in time."""
        if not self._begun:
            self._begun = True  # so that there is a stored place before anything is copied
            return self._batch([])
        before = self._reached
        following, events, size = self._following, 0, 0
        event = self._tail.next(timeout_seconds)
        while event is not None:
            self._take(event)
            events += 1  # those of others' tables are many, too
            size += event.size if isinstance(event, Mutation) else 0
            rows = max(events, sum(c.count for c in self._collectors.values()))
            if rows >= following.batch_rows_max or size >= following.batch_bytes_max:
                break
            event = self._tail.next(0)
        self._look_at_dropped()
        changes: list[Change] = [c.changes() for c in self._collectors.values() if c.count]
        changes, self._broken = [*changes, *self._broken], []
        return self._batch(changes) if changes or self._reached != before else None

    def confirm(self, position: Position) -> None:
        """All up to there is durable: where we are told to, its files are deleted."""
        at = reached(position).nodes.get(self._following.node)
        if at is not None and self._following.deletes_files:
            forget(self._following.cdc_raw, at)

    def nudge(self) -> None:
        """The log is looked at all the time."""

    def expect(self, tables: Sequence[TableSchema]) -> None:
        """Give changes of these tables, in these schemas."""
        found = self._layouts()
        wanted = {schema.table: schema for schema in tables}
        self._collectors = {
            table: Collector(replace(found[table], schema=schema))
            for table, schema in wanted.items()
            if table in found
        }

    def lag_bytes(self) -> int:
        """What the node has synced and we have not read."""
        return behind(self._following.cdc_raw, self._reached.nodes.get(self._following.node))

    def queued_bytes(self) -> int:
        """What the log's reader has read and no batch has."""
        return self._tail.queued_bytes

    def close(self) -> None:
        """End the log's reader. Safe to call twice."""
        self._tail.close()

    def _batch(self, changes: list[Change]) -> ChangeBatch:
        end = self._reached.position()
        return ChangeBatch(self._following.source, tuple(changes), (end,), end, None)

    def _take(self, event: LogEvent) -> None:
        if isinstance(event, Ready):
            self._tables = dict(event.tables)
            return
        mark = self._reached.mark
        if isinstance(event, Mutation):
            for change in event.changes:
                self._take_change(change, event.position)
            for table_id, table in self._tables.items():
                if (table.keyspace, table.name) == (marks.KEYSPACE, marks.TABLE):
                    mark = max(mark, self._marks.of(event, table_id))
        nodes = {**self._reached.nodes, self._following.node: event.position}
        self._reached = Reached(nodes, mark)

    def _take_change(self, change: LogChange, end: LogPosition) -> None:
        named = self._tables[change.table]
        table = TableId(self._following.source, named.keyspace, named.name)
        collector, known = self._collectors.get(table), self._known(table)
        if collector is None or (known is not None and not known.has(change.table, end)):
            return
        try:
            collector.take(change)
        except ValueError as error:
            self._broken.append(Broken(table, f"it cannot be held: {error}", copy_again=False))
            del self._collectors[table]

    def _look_at_dropped(self) -> None:
        """A mutation with a dropped table may have had others, which the reader does not see."""
        if len(self._tail.dropped) > self._dropped:
            self._dropped = len(self._tail.dropped)
            why = "the log has changes of a dropped table, and perhaps of this one with them"
            self._broken += [Broken(table, why) for table in self._collectors]
