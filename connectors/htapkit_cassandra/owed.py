"""Rows that logs named and that are still to be read, oldest first: counters, and see `scanned`.

While any is owed, no position behind its place in the log is given out: a restart names it again.
So it is for what was read, until a mark that was written later came through all logs. A reading may
have seen what its node had not synced; one that is killed loses that, and no log names the row
again. A node that starts begins a segment of its log, so what is in doubt then is read once more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from operator import itemgetter
from typing import Final

from htapkit.errors import SourceUnavailable
from htapkit.model import Broken, Change, TableId
from htapkit_cassandra.blocks import Block
from htapkit_cassandra.cells import Collector
from htapkit_cassandra.counters import counts, named
from htapkit_cassandra.horizons import Horizons
from htapkit_cassandra.mutations import LogChange
from htapkit_cassandra.named import Named
from htapkit_cassandra.positions import Reached
from htapkit_cassandra.rowreads import CONCURRENT, RowReads
from htapkit_cassandra.scanned import judged

SECONDS_AT_ONCE: Final = 0.5  # others' changes wait meanwhile
PAUSE_SECONDS: Final = 1.0  # after one could not be read
OWED_MAX: Final = 200_000


class Owed:
    """What one stream owes. One thread uses it."""

    def __init__(self, reads: RowReads, horizons: Horizons) -> None:
        """Nothing."""
        self._reads = reads
        self.horizons = horizons
        self._owed: dict[tuple[TableId, Named], tuple[int, Reached]] = {}
        self._doubtful: dict[tuple[TableId, Named], tuple[int, Reached, int]] = {}
        self._named = 0
        self._counters: set[TableId] = set()
        self._tables: set[TableId] = set()  # that are followed
        self._not_before = 0.0
        self.why = ""  # why some could not be read, "" = they can

    @property
    def any_tables(self) -> bool:
        """Whether a table of counters is followed."""
        return bool(self._counters)

    def expect(self, collectors: Mapping[TableId, Collector]) -> None:
        """Of these tables some have counters; what is owed of others is nobody's."""
        self._tables = {*collectors}
        self._counters = {table for table, c in collectors.items() if counts(c.layout)}
        self._forget()

    def _forget(self) -> None:
        """What is owed of tables that are not followed."""
        self._owed = {k: at for k, at in self._owed.items() if k[0] in self._tables}
        self._doubtful = {k: at for k, at in self._doubtful.items() if k[0] in self._tables}

    def owe(self, table: TableId, change: LogChange, before: Reached) -> LogChange | None:
        """Note what a change names that has to be read; what of it counts for itself."""
        if table in self._counters:
            self._owe(table, named(change), before)
            return None
        horizon = self.horizons.of(table)
        if not horizon:
            return change
        kept, name = judged(change, horizon)
        if name is not None:
            self._owe(table, name, before)
        return kept

    def counts_whole(self, table: TableId, block: Block) -> bool:
        """Whether all of a block counts for itself: `owe` would note nothing of its rows."""
        if table in self._counters:
            return False
        horizon = self.horizons.of(table)
        if not horizon:
            return True
        return not block.value.null_count and bool((block.written > horizon).all())

    def _owe(self, table: TableId, name: Named, before: Reached) -> None:
        self._named += 1
        self._owed.setdefault((table, name), (self._named, before))
        self._doubtful.pop((table, name), None)

    def held(self, reached: Reached) -> Reached:
        """How far the logs were read, without what is owed; with places before what is in doubt."""
        owed = min(self._owed.values(), key=itemgetter(0), default=(self._named + 1, reached))
        doubtful = min(self._doubtful.values(), key=itemgetter(0), default=None)
        if doubtful is None or owed[0] < doubtful[0]:
            return owed[1]
        return replace(owed[1], nodes=doubtful[1].nodes)

    def came(self, mark: int) -> None:
        """That one came through all logs: what was read before it was written is sure."""
        self._doubtful = {k: at for k, at in self._doubtful.items() if at[2] > mark}

    def doubt(self, reached: Reached, collectors: dict[TableId, Collector]) -> list[Change]:
        """A log begins a segment: perhaps its node was started again. The tables that broke."""
        for each, (number, before, _) in self._doubtful.items():
            self._owed[each] = (number, replace(reached, nodes=before.nodes))
        self._doubtful = {}
        why = "a node may have been started again right behind the reading of its rows"
        scanned = self._reads.scanned
        recent = [t for t in self._tables if scanned.get(t, 0) > reached.through]
        broken = [table for table in recent if self._reads.may_be_gone(table)]
        return [self._broken(table, why, collectors) for table in broken]

    def settle(self, collectors: dict[TableId, Collector]) -> list[Change]:
        """Read what can be read by now into the collectors; the tables that broke."""
        broken: list[Change] = []
        if len(self._owed) + len(self._doubtful) > OWED_MAX:
            why = f"more than {OWED_MAX} of its rows could not be read, or not surely: {self.why}"
            tables = {table for table, _ in (*self._owed, *self._doubtful)}
            broken += [self._broken(table, why, collectors) for table in tables]
        until = time.monotonic() + SECONDS_AT_ONCE
        while self._owed and self._not_before <= time.monotonic() < until:
            # No more than run at once: perhaps each takes as long as it may.
            some = list(islice(self._owed, CONCURRENT))
            for table in dict.fromkeys(table for table, _ in some):
                wanted = [name for other, name in some if other == table]
                broken += self._read(table, wanted, collectors)
        return broken

    def _read(
        self, table: TableId, wanted: list[Named], collectors: dict[TableId, Collector]
    ) -> list[Change]:
        collector = collectors[table]
        found, problem = self._reads.read(collector.layout, wanted)
        now = self._reads.ticks.next()
        for name, changes in found.items():
            self._doubtful[table, name] = (*self._owed.pop((table, name)), now)
            try:
                for change in changes:
                    collector.take(change)
            except ValueError as error:
                return [
                    self._broken(table, f"it cannot be held: {error}", collectors, copy_again=False)
                ]
        if problem is None:
            self.why = ""
        elif isinstance(problem, SourceUnavailable):
            self.why = f"rows of {table} cannot be read: {problem}"
            self._not_before = time.monotonic() + PAUSE_SECONDS
            for name in wanted:
                if (table, name) in self._owed:  # behind those of which others are the replicas
                    self._owed[table, name] = self._owed.pop((table, name))
        else:
            return [self._broken(table, f"its rows cannot be read: {problem}", collectors)]
        return []

    def _broken(
        self,
        table: TableId,
        why: str,
        collectors: dict[TableId, Collector],
        *,
        copy_again: bool = True,
    ) -> Broken:
        collectors.pop(table, None)
        self._tables.discard(table)
        self._counters.discard(table)
        self._forget()
        return Broken(table, why, copy_again=copy_again)
