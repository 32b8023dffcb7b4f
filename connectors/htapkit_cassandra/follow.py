"""The nodes' logs as one stream of batches: what is synced, in each log's order, with its places.

Cells carry their own times, so the core takes them in any order; a batch is only as much as was
there. It never guesses: what cannot be decoded breaks its table, by name.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from htapkit.errors import SourceRefused
from htapkit.model import Broken, Change, ChangeBatch, Position, TableId, TableSchema
from htapkit.spi import LogLag
from htapkit_cassandra import marks
from htapkit_cassandra.blocks import Block
from htapkit_cassandra.cells import Collector
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.machine import Machine
from htapkit_cassandra.marks import Marks
from htapkit_cassandra.mutations import LogChange, LogEvent, LogPosition, LogTable, Mutation, Ready
from htapkit_cassandra.owed import Owed
from htapkit_cassandra.positions import Reached, reached
from htapkit_cassandra.tails import Tails


@dataclass(frozen=True, slots=True)
class NodeLog:
    """One node's log."""

    name: str  # the node's address, for people
    machine: Machine


@dataclass(frozen=True, slots=True)
class Following:
    """What a stream is given."""

    source: str
    logs: Mapping[str, NodeLog]  # by host id
    deletes_files: bool
    batch_rows_max: int
    batch_bytes_max: int


class Catalog(Protocol):
    """What the nodes say of their tables."""

    def layouts(self) -> Mapping[TableId, Layout]:
        """Ask for the tables as they are now. Raises SourceError."""

    def counts(self, table: TableId, table_id: str, node: str, end: LogPosition) -> bool:
        """Whether what a node's log has there is of the table as it was last found."""

    def silent(self, node: str) -> str:
        """Why a node did not answer when it was last asked, "" = it did."""


class LogStream:
    """The spi.ChangeStream over nodes' logs; also spi.Queues and spi.SeveralLogs."""

    def __init__(
        self,
        following: Following,
        tails: Tails,
        start: Reached,
        marks_: Marks,
        catalog: Catalog,
        owed: Owed,
    ) -> None:
        """`tails` has a tail for each of the logs."""
        self._owed = owed
        self._given = start  # in the last batch
        self._end = start.position()  # of the last batch
        self._following = following
        self._tails = tails
        self._reached = start
        self._marks = marks_
        self._catalog = catalog
        self._tables: dict[str, dict[str, LogTable]] = {}
        self._collectors: dict[TableId, Collector] = {}
        self._broken: list[Change] = []
        self._dropped = 0  # how many dropped tables the logs' readers have met
        self._begun = self._closed = False

    def next(self, timeout_seconds: float) -> ChangeBatch | None:
        """What has been read, or None when nothing came in time."""
        if not self._begun:
            self._begun = True  # so that there is a stored place before anything is copied
            self._owed.horizons.opened()
            return self._batch([])
        self._owed.horizons.round(self._end)
        if self._marks.stopped:
            raise SourceRefused(self._marks.stopped)
        following, events, size = self._following, 0, 0
        came = self._tails.next(timeout_seconds)
        while came is not None:
            node, event = came
            self._take(node, event)
            events += 1  # those of others' tables are many, too
            size += event.size if isinstance(event, Mutation) else 0
            rows = max(events, sum(c.count for c in self._collectors.values()))
            if rows >= following.batch_rows_max or size >= following.batch_bytes_max:
                break
            came = self._tails.next(0)
        self._look_at_dropped()
        self._reached = self._reached.vouched(self._marks.lags.vouched())
        self._owed.came(self._reached.through)
        self._broken += self._owed.settle(self._collectors)
        changes: list[Change] = [c.changes() for c in self._collectors.values() if c.count]
        changes, self._broken = [*changes, *self._broken], []
        moved = self._owed.held(self._reached) != self._given
        return self._batch(changes) if changes or moved else None

    def confirm(self, position: Position) -> None:
        """All up to there is durable: where we are told to, its files are deleted."""
        if not self._following.deletes_files:
            return
        for node, at in reached(position).nodes.items():
            if node in self._following.logs:
                self._following.logs[node].machine.forget(at)

    def nudge(self) -> None:
        """The logs are looked at all the time; what is vouched for may grow without them."""
        if self._marks.lags.mark > self._reached.mark:
            self._tails.wake()

    def expect(self, tables: Sequence[TableSchema]) -> None:
        """Give changes of these tables, in these schemas."""
        self._marks.expect({schema.table.schema for schema in tables})
        found = self._catalog.layouts()
        wanted = {schema.table: schema for schema in tables}
        self._collectors = {
            table: Collector(replace(found[table], schema=schema))
            for table, schema in wanted.items()
            if table in found
        }
        self._owed.expect(self._collectors)

    def lag_bytes(self) -> int:
        """What the nodes have synced and we have not read."""
        return sum(self._behind(node) for node in self._following.logs)

    def _behind(self, node: str) -> int:
        segments = self._following.logs[node].machine.segments()
        return segments.behind(self._reached.nodes.get(node))

    def logs(self) -> Sequence[LogLag]:
        """How far behind each node's is."""
        now, lags, found = time.monotonic(), self._marks.lags, []
        vouched = self._marks.vouched_for(now)
        for node, log in self._following.logs.items():
            why = self._tails.why(node) or self._catalog.silent(node) or self._owed.why
            seconds = lags.seconds(node, now)
            found.append(LogLag(log.name, self._behind(node), seconds, why, vouched))
        return found

    def queued_bytes(self) -> int:
        """What the logs' readers have read and no batch has."""
        return self._tails.queued_bytes

    def close(self) -> None:
        """End the logs' readers. Safe to call twice."""
        if self._begun and not self._closed:
            self._owed.horizons.closed()
        self._closed = True
        self._tails.close()

    def _batch(self, changes: list[Change]) -> ChangeBatch:
        self._given = self._owed.held(self._reached)
        # The place may be held back: without a number of its own, what this batch brings would
        # be taken for something that the copy has already.
        ticks = self._marks.ticks
        end = replace(self._given, read=ticks.next() if changes else ticks.last).position()
        self._end = end
        return ChangeBatch(self._following.source, tuple(changes), (end,), end, None)

    def _take(self, node: str, event: LogEvent) -> None:
        if isinstance(event, Ready):
            self._tables[node] = dict(event.tables)
            return
        before = self._reached.nodes.get(node)
        if before is None or event.position.segment != before.segment:
            self._broken += self._owed.doubt(self._reached, self._collectors)
        if isinstance(event, Mutation):
            tables = self._tables.get(node, {})
            for change in event.changes:
                self._take_change(node, change, event.position)
            for block in event.blocks:
                self._take_block(node, block, event.position.segment)
            for table_id, table in tables.items():
                if (table.keyspace, table.name) == (marks.KEYSPACE, marks.TABLE):
                    self._take_mark(node, self._marks.of(event, table_id))
        nodes = {**self._reached.nodes, node: event.position}
        self._reached = replace(self._reached, nodes=nodes)

    def _take_mark(self, node: str, mark: int) -> None:
        """What is behind it in this log is behind what it vouches for. 0 = there was none."""
        if mark:
            lags = self._marks.lags
            lags.came(node, mark, time.monotonic())
            self._reached = self._reached.vouched(lags.vouched())

    def _take_block(self, node: str, block: Block, segment: int) -> None:
        table = self._named(node, block.table)
        if table not in self._collectors:
            return

        def counts(end: int) -> bool:
            return self._catalog.counts(table, block.table, node, LogPosition(segment, end))

        # What is of before a TRUNCATE lies before all that is not.
        there = block.since(bisect_left(block.end, x=True, key=counts))
        if self._owed.counts_whole(table, there):
            with self._holding(table):
                self._collectors[table].take_block(there)
            return
        for change, end in zip(there.writes(), there.end.tolist(), strict=True):
            self._take_change(node, change, LogPosition(segment, end))

    def _take_change(self, node: str, change: LogChange, end: LogPosition) -> None:
        table = self._named(node, change.table)
        collector = self._collectors.get(table)
        if collector is None or not self._catalog.counts(table, change.table, node, end):
            return
        counting = self._owed.owe(table, change, self._reached)
        if counting is not None:
            with self._holding(table):
                collector.take(counting)

    def _named(self, node: str, table_id: str) -> TableId:
        named = self._tables[node][table_id]
        return TableId(self._following.source, named.keyspace, named.name)

    @contextmanager
    def _holding(self, table: TableId) -> Iterator[None]:
        """A value that no column can hold breaks its table."""
        try:
            yield
        except ValueError as error:
            self._broken.append(Broken(table, f"it cannot be held: {error}", copy_again=False))
            del self._collectors[table]

    def _look_at_dropped(self) -> None:
        """A mutation with a dropped table may have had others, which the reader does not see."""
        dropped = self._tails.dropped
        if dropped > self._dropped:
            self._dropped = dropped
            why = "the log has changes of a dropped table, and perhaps of this one with them"
            self._broken += [Broken(table, why) for table in self._collectors]
