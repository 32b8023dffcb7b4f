"""Changes and copied rows as events in Debezium's envelope, as JSON without schemas. Pure.

Of one transaction, the events of one table are in the source's order; those of different tables lie
one table behind the other, which is the order that `transaction.total_order` counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from htapkit.model import Op, Position, TableId, TableSchema
from htapkit.sinks import Changed, Commit, Part
from htapkit_kafka.settings import Settings
from htapkit_kafka.values import Value, json_values, unavailable

Headers = Sequence[tuple[str, bytes]]
_OPS: Final = {Op.INSERT: "c", Op.UPDATE: "u", Op.DELETE: "d"}
TABLE_KEY: Final = "__dbz__physicalTableIdentifier"
"""In the keys of a topic that several tables share: which of them."""


@dataclass(frozen=True, slots=True)
class Event:
    """One message. Without a key it goes to the first partition, or to `everywhere`."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    everywhere: bool = False


@dataclass(slots=True)
class Order:
    """Counts the events of a transaction, in all and of each table, over all of its parts."""

    position: Position | None = None
    total: int = 0
    tables: dict[TableId, int] = field(default_factory=dict)

    def next(self, position: Position, table: TableId) -> tuple[int, int]:
        """The next event's numbers, from 1."""
        if position != self.position:
            self.position, self.total, self.tables = position, 0, {}
        self.total += 1
        self.tables[table] = self.tables.get(table, 0) + 1
        return self.total, self.tables[table]


def dumps(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Envelope:
    """Makes the events of one table's schema."""

    def __init__(self, schema: TableSchema, *, shared: bool, tombstones: bool) -> None:
        """`shared`: its topic has other tables, too. `tombstones`: a null behind each delete."""
        self.table = schema.table
        self._names = [column.name for column in schema.columns]
        self._unavailable = {c.name: unavailable(c.arrow) for c in schema.columns}
        self._key = schema.key
        self._shared = shared
        self._tombstones = tombstones and bool(schema.key)
        table = schema.table
        about = {"connector": "htapkit", "name": table.source, "db": table.source}
        self._about = dumps({**about, "schema": table.schema, "table": table.name})[1:-1]

    def truncate(self, at: Commit, now_ms: int, numbers: tuple[int, int] | None) -> Event:
        """All rows are gone; without numbers, because a copy begins."""
        value = self._value("null", "null", "t", (at, now_ms, numbers is None, numbers))
        return Event(None, value, everywhere=True)

    def copied(self, rows: pa.RecordBatch, at: Position, now_ms: int) -> Iterator[Event]:
        """Rows as they were at a position."""
        about = (Commit(at, None), now_ms, True, None)
        for row in self._dicts(rows):
            yield Event(self._key_of(row), self._value("null", dumps(row), "r", about))

    def _dicts(self, rows: pa.RecordBatch) -> list[dict[str, Value]]:
        names = rows.schema.names
        columns = [json_values(column) for column in rows.columns]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def _key_of(self, row: Mapping[str, Value]) -> bytes | None:
        if not self._key:
            return None
        key: dict[str, Value] = {name: row[name] for name in self._key}
        if self._shared:
            key[TABLE_KEY] = f"{self.table.schema}.{self.table.name}"
        return dumps(key).encode()

    def _value(
        self,
        before: str,
        after: str,
        op: str,
        about: tuple[Commit, int, bool, tuple[int, int] | None],
    ) -> bytes:
        commit, now_ms, snapshot, numbers = about
        time_us = commit.time_us if commit.time_us is not None else now_ms * 1000
        position = dumps(commit.position)
        transaction = "null"
        if numbers is not None:
            transaction = (
                f'{{"id":{position},"total_order":{numbers[0]},'
                f'"data_collection_order":{numbers[1]}}}'
            )
        return (
            f'{{"before":{before},"after":{after},"source":{{{self._about},'
            f'"ts_ms":{time_us // 1000},"ts_us":{time_us},'
            f'"snapshot":"{str(snapshot).lower()}","position":{position}}},'
            f'"transaction":{transaction},"op":"{op}","ts_ms":{now_ms}}}'
        ).encode()


class _Rows:
    """The rows of one RowChanges as JSON values."""

    def __init__(self, envelope: Envelope, changed: Changed) -> None:
        assert changed.rows is not None, "a truncate has no rows"
        change = changed.rows
        self._envelope = envelope
        self._ops: list[int] = change.ops.to_pylist()
        self._rows = envelope._dicts(change.rows)
        if change.before is not None:
            self._before = envelope._dicts(change.before)
            assert change.moved is not None, "they come together"
            self._moved: list[bool] = change.moved.to_pylist()
        else:
            self._before, self._moved = [], []
        for name, mask in change.unchanged.items():
            shown = envelope._unavailable[name]
            for row in pc.indices_nonzero(mask).to_pylist():
                self._rows[row][name] = shown

    def events(self, row: int, commit: Commit, now_ms: int, order: Order) -> Iterator[Event]:
        """Those of one row: one, or two where its key changed; a tombstone behind a delete."""
        envelope, now = self._envelope, self._rows[row]
        op = _OPS[Op(self._ops[row])]
        moved = bool(self._moved) and self._moved[row]

        def value(before: str, after: str, as_op: str) -> bytes:
            numbers = order.next(commit.position, envelope.table)
            return envelope._value(before, after, as_op, (commit, now_ms, False, numbers))

        key = envelope._key_of(now)
        if op == "d":
            yield Event(key, value(dumps(now), "null", "d"))
            yield from self._tombstone(key)
        elif moved and key is not None:
            gone: dict[str, Value] = dict.fromkeys(envelope._names)
            gone |= self._before[row]
            old = envelope._key_of(gone)
            assert old is not None, "a table has a key or not"
            yield Event(old, value(dumps(gone), "null", "d"), [("__debezium.newkey", key)])
            yield from self._tombstone(old)
            yield Event(key, value("null", dumps(now), "c"), [("__debezium.oldkey", old)])
        else:
            before = dumps(self._before[row]) if moved else "null"
            yield Event(key, value(before, dumps(now), op))

    def _tombstone(self, key: bytes | None) -> Iterator[Event]:
        if self._envelope._tombstones:
            yield Event(key, None)


class Format(Protocol):
    """How changes become messages."""

    def changes(self, part: Part, now_ms: int, order: Order) -> Iterator[tuple[TableId, Event]]:
        """The events of a part, transaction by transaction."""
        ...

    def copied(
        self, schema: TableSchema, rows: pa.RecordBatch, at: Position, now_ms: int
    ) -> Iterator[Event]:
        """Rows as they were at a position."""
        ...

    def truncated(self, schema: TableSchema, at: Commit, now_ms: int) -> Event:
        """All rows are gone, before others are copied."""
        ...


class JsonFormat:
    """A Format: an event for each row."""

    def __init__(self, settings: Settings) -> None:
        """As the settings have it."""
        self._settings = settings
        self._envelopes: dict[TableId, tuple[TableSchema, Envelope]] = {}

    def changes(self, part: Part, now_ms: int, order: Order) -> Iterator[tuple[TableId, Event]]:
        """The events of a part, transaction by transaction."""
        envelopes = [self._envelope(changed.schema) for changed in part.changes]
        rows = [
            _Rows(envelope, changed) if changed.rows is not None else None
            for envelope, changed in zip(envelopes, part.changes, strict=True)
        ]
        for commit, number, row in _places(part.changes):
            envelope, each, about = envelopes[number], rows[number], part.commits[commit]
            if each is None:
                numbers = order.next(about.position, envelope.table)
                yield envelope.table, envelope.truncate(about, now_ms, numbers)
                continue
            for event in each.events(row, about, now_ms, order):
                yield envelope.table, event

    def copied(
        self, schema: TableSchema, rows: pa.RecordBatch, at: Position, now_ms: int
    ) -> Iterator[Event]:
        """Rows as they were at a position."""
        return self._envelope(schema).copied(rows, at, now_ms)

    def truncated(self, schema: TableSchema, at: Commit, now_ms: int) -> Event:
        """All rows are gone, before others are copied."""
        return self._envelope(schema).truncate(at, now_ms, None)

    def _envelope(self, schema: TableSchema) -> Envelope:
        """Made once for each schema."""
        known = self._envelopes.get(schema.table)
        if known is None or known[0] != schema:
            settings = self._settings
            made = Envelope(schema, shared=settings.shared, tombstones=settings.tombstones)
            known = self._envelopes[schema.table] = schema, made
        return known[1]


def _places(changes: Sequence[Changed]) -> list[tuple[int, int, int]]:
    """(transaction, change, row) of each event, by transaction; a table's keep their order."""
    places: list[tuple[int, int, int]] = []
    for number, changed in enumerate(changes):
        if changed.rows is None:
            places.append((changed.truncated, number, 0))
        else:
            commits = changed.rows.commit.to_pylist()
            places += [(commit, number, row) for row, commit in enumerate(commits)]
    places.sort(key=lambda place: place[0])
    return places
