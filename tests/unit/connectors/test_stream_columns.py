"""What the stream makes of rows while the catalog is ahead of them, step by step."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from typing import cast

import pytest

from htapkit.model import (
    Broken,
    Change,
    Column,
    RowChanges,
    SqlType,
    TableId,
    TableSchema,
)
from htapkit.spi import Discovered
from htapkit_postgres.chunk import Chunk
from htapkit_postgres.decode import Frames
from htapkit_postgres.fingerprint import Fingerprint, Part
from htapkit_postgres.head import PostgresHead
from htapkit_postgres.receiver import Receiver
from htapkit_postgres.stream import Look, PostgresStream

OID = 20_000
TABLE = TableId("s", "public", "t")


def schema(*columns: str) -> TableSchema:
    """`name number`, all of them int."""
    split = [column.split() for column in columns]
    made = tuple(Column(name, SqlType("int4", 23), int(number)) for name, number in split)
    return TableSchema(TABLE, made, key=("id",))


def relation(*names: str) -> bytes:
    head = b"R" + struct.pack(">I", OID) + b"public\0t\0d" + struct.pack(">H", len(names))
    columns = [
        bytes([name == "id"]) + name.encode() + b"\0" + struct.pack(">Ii", 23, -1) for name in names
    ]
    return head + b"".join(columns)


def row(*values: int) -> bytes:
    cells = [b"t" + struct.pack(">I", len(str(value))) + str(value).encode() for value in values]
    head = b"I" + struct.pack(">I", OID) + b"N" + struct.pack(">H", len(values))
    return head + b"".join(cells)


class Server:
    """A source whose catalog and log are set by hand. It is what a receiver hands over, too."""

    def __init__(self, *columns: str) -> None:
        self._chunks: list[Chunk] = []
        self._end = 1000
        self.is_now(*columns)
        receiver, head = cast("Receiver", self), cast("PostgresHead", None)
        self.stream = PostgresStream("s", receiver, self._look, [schema(*columns)], head)

    def is_now(self, *columns: str, made: int = 0) -> None:
        """The catalog from here on; so many columns were ever made."""
        self._schema = schema(*columns)
        self._made = max([made, *(column.ordinal for column in self._schema.columns)])
        self._end += 100

    def _look(self, tables: Sequence[TableId]) -> Look:
        parts = {OID: Part("", OID, "")}
        fingerprint = Fingerprint(OID, parts, "1", attributes=self._made).text()
        found = {TABLE: Discovered(self._schema, fingerprint)} if TABLE in tables else {}
        return Look(time.monotonic(), self._end, found)

    def sends(self, *messages: bytes, end: int = 0) -> Sequence[Change]:
        """What becomes of one transaction, which ended there (0: after all that is known)."""
        self._end += 100
        data, lengths = b"".join(messages), [len(message) for message in messages]
        frames = Frames(data, lengths, ends=(end or self._end,))
        self._chunks.append(Chunk(frames, self._end, True, 0, (), time.monotonic()))
        batch = self.stream.next(0)
        assert batch is not None
        return batch.changes

    def start(self) -> None:
        return

    def get(self, _: float) -> Chunk:
        return self._chunks.pop(0)


def rows(change: Change) -> list[dict[str, int | None]]:
    assert isinstance(change, RowChanges)
    return change.rows.to_pylist()


def test_an_old_name_is_not_kept_over_a_new_copy() -> None:
    """The table breaks on its last name; the new copy's rows come without another message."""
    server = Server("id 1", "a 2")
    server.sends(relation("id", "a"), row(1, 1))
    behind = 1150
    server.is_now("id 1", "d 2")
    (broken,) = server.sends(relation("id", "c"), row(2, 2), end=behind)
    assert isinstance(broken, Broken)
    server.sends(relation("id", "d"), end=behind)
    server.stream.expect([schema("id 1", "d 2")])
    (change,) = server.sends(row(3, 3))
    assert rows(change) == [{"id": 3, "d": 3}]


def test_nor_while_the_table_is_left_out() -> None:
    server = Server("id 1", "a 2")
    server.sends(relation("id", "a"), row(1, 1))
    server.stream.expect([])
    server.is_now("id 1", "d 2")
    assert server.sends(relation("id", "d"), row(2, 2)) == ()
    server.stream.expect([schema("id 1", "d 2")])
    (change,) = server.sends(row(3, 3))
    assert rows(change) == [{"id": 3, "d": 3}]


def test_the_catalog_knew_before_the_stream() -> None:
    """Rows with the old names go on until the stream shows the new ones."""
    server = Server("id 1", "a 2")
    server.sends(relation("id", "a"), row(1, 1))
    server.is_now("id 1", "d 2", "e 3")
    server.stream.expect([schema("id 1", "d 2", "e 3")])
    (change,) = server.sends(row(2, 2))
    assert rows(change) == [{"id": 2, "d": 2, "e": None}]
    (change,) = server.sends(relation("id", "d", "e"), row(3, 3, 3))
    assert rows(change) == [{"id": 3, "d": 3, "e": 3}]


@pytest.mark.parametrize("is_late", [True, False])
def test_what_was_looked_at_before_is_certain(is_late: bool) -> None:
    """One column went, another of its type came: rows from before that look might have either."""
    server = Server("id 1", "a 2")
    server.is_now("id 1", "c 3")
    server.stream.expect([schema("id 1", "c 3")])
    server.is_now("id 1", "c 3", "d 4")
    (change,) = server.sends(relation("id", "c"), row(1, 1), end=1050 if is_late else 0)
    if is_late:
        assert isinstance(change, Broken)
    else:
        assert rows(change) == [{"id": 1, "c": 1}]
