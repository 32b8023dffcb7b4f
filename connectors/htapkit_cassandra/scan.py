"""Tables read over CQL, by ranges of tokens, at consistency ALL: a copy that needs no files.

Each page is read while the one before is worked on. What comes are cells with the times that the
node says; `scanned` has what that means. No tombstone comes: the log, which is followed meanwhile,
has those of later than `horizons`.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cassandra import ConsistencyLevel
from cassandra.cluster import ResponseFuture, Session
from cassandra.query import BoundStatement, PreparedStatement

from htapkit.errors import SourceUnavailable
from htapkit.model import Split, TableId
from htapkit_cassandra import scanned, tokens
from htapkit_cassandra.catalog import quoted
from htapkit_cassandra.cluster import translated
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.mutations import LogChange, RowWrite
from htapkit_cassandra.pace import Pace
from htapkit_cassandra.rowreads import RowReads
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.undecoded import AtMoment, KeptSession

PAGE_ROWS: Final = 1_000
PAGE_BYTES: Final = 2**22  # about: the next page has fewer rows where these were large
FIRST_ROWS: Final = 100
TRIES: Final = 3  # of a page
_GENERATION: Final = "SELECT gossip_generation FROM system.local"
Page = Sequence[Sequence[bytes | None]]


@dataclass(frozen=True, slots=True)
class Asking:
    """Who is asked: each node's settings and tokens, by host id."""

    nodes: Mapping[str, Settings]
    tokens: Mapping[str, Sequence[int]]


class Scan:
    """One copy's reading of tables. Several threads may read at once."""

    def __init__(self, ring: Asking, reads: RowReads, rows_per_second_max: int | None) -> None:
        """`rows_per_second_max` are cells, of each node. Raises SourceError."""
        self._ring = ring
        self._reads = reads
        self._moment = int(time.time())
        self._kept = {
            node: KeptSession(settings, AtMoment(self._moment))
            for node, settings in ring.nodes.items()
        }
        self.boots = self._generations()
        self._paces = {node: Pace(rows_per_second_max) for node in ring.nodes}

    def splits(self, table: TableId) -> Sequence[Split]:
        """One for each range of tokens."""
        return [Split(table, str(each), 0) for each in tokens.ranges(self._ring.tokens)]

    def read(self, layout: Layout, split: Split) -> Iterator[list[LogChange]]:
        """All rows of a range, in pages. Raises SourceError, ValueError."""
        wanted = tokens.parse(split.token)
        node = wanted.node if wanted.node in self._ring.nodes else next(iter(self._ring.nodes))
        settings = self._ring.nodes[node]
        with translated(settings):
            opened = self._kept[node].opened()
            prepared = self._kept[node].statement(opened, _text(layout))
        tick = self._reads.ticks.next()
        for page in _Range(opened, settings, prepared, (wanted.after, wanted.upto)).pages():
            changes = list(scanned.scanned(layout, page, self._moment, tick))
            yield changes
            self._paces[node].passed(sum(map(_cells, changes)))
        self._reads.was_scanned(layout.schema.table, self.boots)
        if self._generations() != self.boots:
            name = layout.schema.table
            raise SourceUnavailable(f"{name}: a node was started again while it was read")

    def _generations(self) -> dict[str, int]:
        """A number of each node's start: it loses then what it had shown and not synced."""
        found = {}
        for node, settings in self._ring.nodes.items():
            with translated(settings):
                (row,) = self._kept[node].opened().execute(_GENERATION)
            (found[node],) = struct.unpack(">i", row[0])
        return found

    def close(self) -> None:
        """Let go of the connections. Safe to call twice."""
        for kept in self._kept.values():
            kept.close()


def _text(layout: Layout) -> str:
    schema = layout.schema
    count = len(schema.key) - len(layout.places.clustering)
    token = f"token({', '.join(quoted(name) for name in schema.key[:count])})"
    return f"{scanned.select(layout)} WHERE {token} > ? AND {token} <= ?"


@dataclass(frozen=True, slots=True)
class _Range:
    """Rows with a token in a range."""

    opened: Session
    settings: Settings
    prepared: PreparedStatement
    between: tuple[int, int]

    def pages(self) -> Iterator[Page]:
        """Each is asked for while the one before is worked on. Raises SourceError."""
        rows, state = FIRST_ROWS, None
        asked = self._ask(rows, state)
        while True:
            page, following = self._answer(asked, rows, state)
            if following is not None:
                rows, state = _fitting(page), following
                asked = self._ask(rows, state)
            yield page
            if following is None:
                return

    def _ask(self, rows: int, state: bytes | None) -> ResponseFuture:
        bound = BoundStatement(self.prepared, fetch_size=rows)
        bound.consistency_level = ConsistencyLevel.ALL
        bound.bind(self.between)
        return self.opened.execute_async(bound, paging_state=state)

    def _answer(
        self, asked: ResponseFuture, rows: int, state: bytes | None
    ) -> tuple[Page, bytes | None]:
        """A page, and where the next one begins (None: nowhere); asked for again if need be."""
        for left in reversed(range(TRIES)):
            try:
                with translated(self.settings):
                    result = asked.result()
                return [list(row) for row in result.current_rows], result.paging_state
            except SourceUnavailable:
                if not left:
                    raise
            asked = self._ask(rows, state)
        raise AssertionError("one of the tries returned or raised")


def _fitting(page: Page) -> int:
    """How many rows the next page may have, by the bytes of this one."""
    size = sum(len(value) for row in page for value in row if value is not None)
    return max(1, min(PAGE_ROWS, PAGE_BYTES * len(page) // size)) if size else PAGE_ROWS


def _cells(change: LogChange) -> int:
    return len(change.cells) or 1 if isinstance(change, RowWrite) else 1
