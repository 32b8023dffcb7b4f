"""What a feed reads: a place of its own in the changes of one source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from htapkit.model import Broken, Position, SchemaChange, TableId, TableSchema
from htapkit.sinks import SeveralReaders
from htapkit.spi import ChangeStream, Discovered, PositionOrder, Snapshot, Source


class Reader(Protocol):
    """The part of a `spi.Source` that a feed needs; it `spi.Retains` as well."""

    @property
    def positions(self) -> PositionOrder:
        """As `spi.Source.positions`."""

    def identity(self, known: str = "", position: Position | None = None, /) -> str:
        """As `spi.Source.identity`."""

    def discover(self) -> Sequence[Discovered]:
        """As `spi.Source.discover`."""

    def compare(
        self, schema: TableSchema, fingerprint: str, now: Discovered
    ) -> SchemaChange | Broken | None:
        """As `spi.Source.compare`."""

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> ChangeStream:
        """As `spi.Source.follow`."""

    def snapshot(
        self, tables: Sequence[TableId], as_text: Mapping[TableId, frozenset[str]]
    ) -> Snapshot:
        """As `spi.Source.snapshot`."""

    def detach(self) -> None:
        """Give up this place, and no other."""

    def close(self) -> None:
        """As `spi.Source.close`."""


def reader_of(source: Source, name: str, copied: Callable[[], Reader]) -> Reader:
    """The place that belongs to a feed: in the source's log, or in the journal of its copy.

    `copied` makes the latter, for sources that keep one place in their log, which is the copy's.
    """
    return source.reader(name) if isinstance(source, SeveralReaders) else copied()
