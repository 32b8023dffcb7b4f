"""Changes and copied rows as Arrow IPC streams, a batch of one table in each message. Pure.

Values keep their Arrow types, a changed key is one `u` with both keys, and rows of several
transactions share a message; each says which is its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from htapkit.model import Op, Position, RowChanges, TableId, TableSchema
from htapkit.sinks import Commit, Part
from htapkit_kafka.envelope import Event, Order

BYTES_MAX: Final = 900_000  # brokers take messages of a megabyte, unless they are told otherwise
_OPS: Final = pa.array(["c", "u", "d"])  # by Op
_TIME: Final = pa.timestamp("us", "UTC")


def message_schema(schema: TableSchema) -> pa.Schema:
    """Of each message of a table: what happened to which row, and in which transaction."""
    row = pa.struct(list(schema.arrow))
    return pa.schema(
        [
            pa.field("op", pa.string()),  # c, u, d; r: copied; t: all rows are gone
            pa.field("position", pa.string()),
            pa.field("committed_at", _TIME),
            pa.field("before", row),  # of d, and of u where the key changed
            pa.field("after", row),
            pa.field("unavailable", pa.list_(pa.string())),  # columns whose old value still holds
        ],
        metadata={
            "htapkit.table": f"{schema.table.schema}.{schema.table.name}",
            "htapkit.key": json.dumps(schema.key),
        },
    )


class ArrowFormat:
    """A Format: an Arrow IPC stream for many rows, without a key, to the first partition."""

    def changes(self, part: Part, _now_ms: int, _order: Order) -> Iterator[tuple[TableId, Event]]:
        """The changes of a part, table by table."""
        positions = pa.array([commit.position for commit in part.commits], pa.string())
        times = pa.array([commit.time_us for commit in part.commits], pa.int64()).cast(_TIME)
        for changed in part.changes:
            table = changed.schema.table
            if changed.rows is None:
                yield table, self.truncated(changed.schema, part.commits[changed.truncated], 0)
                continue
            commit = changed.rows.commit
            columns = [
                _OPS.take(changed.rows.ops),
                positions.take(commit),
                times.take(commit),
                *_rows(changed.schema, changed.rows),
                _unavailable(changed.rows),
            ]
            for event in _messages(changed.schema, columns):
                yield table, event

    def copied(
        self, schema: TableSchema, rows: pa.RecordBatch, at: Position, _now_ms: int
    ) -> Iterator[Event]:
        """Rows as they were at a position."""
        count, wanted = rows.num_rows, message_schema(schema)
        columns = [
            pa.repeat(pa.scalar("r"), count),
            pa.repeat(pa.scalar(at, pa.string()), count),
            pa.nulls(count, _TIME),
            pa.nulls(count, wanted.field("before").type),
            rows.to_struct_array(),
            pa.nulls(count, wanted.field("unavailable").type),
        ]
        yield from _messages(schema, columns)

    def truncated(self, schema: TableSchema, at: Commit, _now_ms: int) -> Event:
        """All rows are gone."""
        told = {"op": "t", "position": at.position, "committed_at": at.time_us}
        row = pa.RecordBatch.from_pylist([told], message_schema(schema))
        return Event(None, _stream(row), everywhere=True)


def _rows(schema: TableSchema, change: RowChanges) -> tuple[pa.Array, pa.Array]:
    """(before, after) as structs."""
    rows, count = change.rows, change.rows.num_rows
    deleted = pc.equal(change.ops, pa.scalar(int(Op.DELETE), pa.int8()))
    known = deleted if change.moved is None else pc.or_(deleted, change.moved)
    columns = []
    for field, column in zip(schema.arrow, rows.columns, strict=True):
        former = pa.nulls(count, field.type)
        if change.before is not None and field.name in change.before.schema.names:
            former = change.before.column(field.name)
        columns.append(pc.if_else(deleted, column, former))
    fields = list(schema.arrow)
    before = pa.StructArray.from_arrays(columns, fields=fields, mask=pc.invert(known))
    return before, pa.StructArray.from_arrays(rows.columns, fields=fields, mask=deleted)


def _unavailable(change: RowChanges) -> pa.Array:
    found: list[list[str] | None] = [None] * change.rows.num_rows
    for name, mask in change.unchanged.items():
        for row in pc.indices_nonzero(mask).to_pylist():
            found[row] = [*(found[row] or []), name]
    return pa.array(found, pa.list_(pa.string()))


def _messages(schema: TableSchema, columns: list[pa.Array]) -> Iterator[Event]:
    batch = pa.RecordBatch.from_arrays(columns, schema=message_schema(schema))
    left = [batch]
    while left:
        part = left.pop()
        value = _stream(part)
        if len(value) > BYTES_MAX and part.num_rows > 1:
            half = part.num_rows // 2
            left += [part.slice(half), part.slice(0, half)]
        else:
            yield Event(None, value)


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())
