"""Row messages of pgoutput (text, protocol 1) as Arrow, a column at a time over a whole batch.

Exists because row-at-a-time Python is ten times slower than the server sends. It never does I/O,
never drops a row silently and never changes a value: what a column's Arrow type cannot hold raises
UnfaithfulValue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.errors import UnfaithfulValue
from htapkit.model import (
    Broken,
    Change,
    Column,
    Op,
    RowChanges,
    SchemaChange,
    TableId,
    TableSchema,
    Truncate,
)
from htapkit_postgres import pgoutput
from htapkit_postgres.pgoutput import Relation, malformed
from htapkit_postgres.rows import Cells, Indexes, Messages, open_messages, texts, walk
from htapkit_postgres.values import Unfit, convert

Resolve = Callable[[Relation], TableSchema | Broken | SchemaChange | None]
"""What the rows after a relation message are. Called at EVERY relation message, in stream order.

TableSchema: decode them so. SchemaChange: the same with `.schema`, and the change itself goes out
in its place among the changes. Broken: goes out, and the table's rows are left out from then on.
None: the rows are left out. Columns that the relation lacks become nulls, columns that the schema
lacks are skipped.
"""

_ROW: Final = 1
_BARRIER: Final = 2
_PASSED: Final = 3

_CLASS: Final = np.zeros(256, np.uint8)
_CLASS[list(pgoutput.ROW_KINDS)] = _ROW
_CLASS[[pgoutput.RELATION, pgoutput.TRUNCATE]] = _BARRIER
_CLASS[[pgoutput.BEGIN, pgoutput.COMMIT, pgoutput.ORIGIN, pgoutput.TYPE, pgoutput.MESSAGE]] = (
    _PASSED
)

_OPS: Final = np.zeros(256, np.int8)
_OPS[pgoutput.INSERT] = Op.INSERT
_OPS[pgoutput.UPDATE] = Op.UPDATE
_OPS[pgoutput.DELETE] = Op.DELETE

_ROW_HEAD_BYTES: Final = 6  # kind, relation, marker of the tuple that follows


@dataclass(frozen=True, slots=True)
class Frames:
    """What a receiver collected: pgoutput messages behind one another, without XLogData headers.

    R, Y, I, U, D, T, O and M belong in it; B and C may be left out. Transaction i holds the
    messages from `starts[i]` up to `starts[i + 1]` (the last one: to the end); a transaction
    without messages is fine. `starts[0]` is 0 when there is any message.
    """

    data: bytes | bytearray  # not changed any more once it is here
    lengths: Sequence[int]  # bytes of each message
    starts: Sequence[int] = field(default=(0,))  # index of each transaction's first message
    ends: Sequence[int] = field(default=(0,))  # end LSN of each; 0: not known yet (still open)
    times: Sequence[int] = ()  # when each was committed, PostgreSQL's microseconds


@dataclass(frozen=True, slots=True)
class _Layout:
    """How rows of one relation become rows of one table."""

    relation: Relation
    schema: TableSchema
    places: tuple[int, ...]  # of each schema column in the relation; -1: it is not there
    arrow: pa.Schema
    problem: Broken | None  # why its updates and deletes cannot be followed

    @property
    def identity(self) -> tuple[int, ...]:
        """The schema columns that an old row is known by."""
        schema = self.schema
        return tuple(
            index
            for index, column in enumerate(schema.columns)
            if schema.whole_rows or column.name in schema.key
        )


class Decoder:
    """Turns Frames into changes. It keeps relations: each connection needs a new one."""

    def __init__(self, source: str, resolve: Resolve) -> None:
        """`source` names the TableIds."""
        self._source = source
        self._resolve = resolve
        self._relations: dict[int, Relation] = {}
        self._tables: dict[int, TableId] = {}
        self._layouts: dict[int, _Layout | None] = {}

    def expect(self, tables: Sequence[TableSchema]) -> None:
        """Decode rows of these tables in these schemas from now on; leave out all others.

        Relations that are already known are bound again, without calling `resolve`; those still
        unknown get there by `resolve` as always.
        """
        schemas = {schema.table: schema for schema in tables}
        for oid, relation in self._relations.items():
            schema = schemas.get(self._tables[oid])
            self._layouts[oid] = _bind(relation, schema) if schema is not None else None

    def decode(self, frames: Frames) -> tuple[Change, ...]:
        """The changes in order (of each table; Truncate and SchemaChange bind all their tables).

        `commit` counts `frames.starts`. Raises UnfaithfulValue, SourceError (malformed); the
        decoder is then as before the call, so that after `expect` (with the column as text) the
        same frames may be tried again.
        """
        if not len(frames.lengths):
            return ()
        kept = dict(self._relations), dict(self._tables), dict(self._layouts)
        try:
            return tuple(self._changes(frames))
        except BaseException:
            self._relations, self._tables, self._layouts = kept
            raise

    def _changes(self, frames: Frames) -> Iterator[Change]:
        messages = open_messages(frames.data, frames.lengths)
        classes = _CLASS[messages.kind]
        if not classes.all():
            pgoutput.check_kind(int(messages.kind[classes.argmin()]))
        pending = _Pending(messages, np.flatnonzero(classes == _ROW), frames.starts)
        for index in np.flatnonzero(classes == _BARRIER).tolist():
            raw = memoryview(frames.data)[messages.begin[index] : messages.end[index]]
            if messages.kind[index] == pgoutput.TRUNCATE:
                yield from self._truncate(pending, index, raw)
            else:
                yield from self._relation(pending, index, raw)
        yield from self._rows(pending, pending.oids(), len(messages.begin))

    def _relation(self, pending: _Pending, index: int, raw: memoryview) -> Iterator[Change]:
        relation = pgoutput.parse_relation(raw)
        answer = self._resolve(relation)
        schema = answer.schema if isinstance(answer, SchemaChange) else answer
        changes: list[Change] = [answer] if isinstance(answer, SchemaChange | Broken) else []
        layout = _bind(relation, schema) if isinstance(schema, TableSchema) else None
        table = _table_of(answer) or TableId(self._source, relation.schema, relation.name)
        if changes or layout != self._layouts.get(relation.oid):
            # Another relation may have had the table's name before: its rows come first.
            same = [oid for oid, other in self._tables.items() if other == table]
            yield from self._rows(pending, {relation.oid, *same}, index)
        yield from changes
        self._relations[relation.oid] = relation
        self._tables[relation.oid] = table
        self._layouts[relation.oid] = layout

    def _truncate(self, pending: _Pending, index: int, raw: memoryview) -> Iterator[Change]:
        oids = pgoutput.parse_truncate(raw).oids
        followed = [oid for oid in oids if self._layout(oid) is not None]
        if followed:
            yield from self._rows(pending, followed, index)
            tables = tuple(dict.fromkeys(self._tables[oid] for oid in followed))
            yield Truncate(tables, int(pending.commits(np.array([index]))[0]))

    def _rows(self, pending: _Pending, oids: Iterable[int], until: int) -> Iterator[Change]:
        for oid in oids:
            rows = pending.take(oid, until)
            layout = self._layout(oid) if len(rows) else None
            if layout is None:
                continue
            change = _decode_rows(pending.messages, layout, rows, pending.commits(rows))
            if isinstance(change, Broken):
                self._layouts[oid] = None
            yield change

    def _layout(self, oid: int) -> _Layout | None:
        try:
            return self._layouts[oid]
        except KeyError:
            raise malformed(f"rows of relation {oid} before the relation itself") from None


class _Pending:
    """The row messages of a batch that are not decoded yet, by relation, in order."""

    def __init__(self, messages: Messages, rows: Indexes, starts: Sequence[int]) -> None:
        self.messages = messages
        self._starts = np.asarray(starts, np.int64)
        self._rows: dict[int, Indexes] = {}
        self._taken: dict[int, int] = {}
        if not len(rows):
            return
        if (messages.end[rows] - messages.begin[rows]).min() <= _ROW_HEAD_BYTES:
            raise malformed("a row is cut short")
        oids = messages.int32[messages.begin[rows] + 1].astype(np.int64) & 0xFFFFFFFF
        if (oids == oids[0]).all():
            self._rows[int(oids[0])] = rows
            return
        order = np.argsort(oids, kind="stable")
        ordered = oids[order]
        cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
        for part in np.split(order, cuts):
            self._rows[int(oids[part[0]])] = rows[part]

    def oids(self) -> Iterable[int]:
        """The relations that have rows in the batch."""
        return self._rows

    def take(self, oid: int, until: int) -> Indexes:
        """The relation's messages before message `until`, each given out once."""
        rows = self._rows.get(oid)
        if rows is None:
            return np.empty(0, np.int64)
        begin = self._taken.get(oid, 0)
        end = len(rows) if until > rows[-1] else int(np.searchsorted(rows, until))
        self._taken[oid] = end
        return rows[begin:end]

    def commits(self, rows: Indexes) -> npt.NDArray[np.int32]:
        """The transaction of each message."""
        if len(self._starts) == 1:
            return np.zeros(len(rows), np.int32)
        return (np.searchsorted(self._starts, rows, side="right") - 1).astype(np.int32)


def _table_of(answer: TableSchema | Broken | SchemaChange | None) -> TableId | None:
    if isinstance(answer, SchemaChange):
        return answer.schema.table
    return answer.table if answer is not None else None


def _bind(relation: Relation, schema: TableSchema) -> _Layout:
    places = {column.name: index for index, column in enumerate(relation.columns)}
    found = tuple(places.get(column.name, -1) for column in schema.columns)
    return _Layout(relation, schema, found, schema.arrow, _problem(relation, schema))


def _problem(relation: Relation, schema: TableSchema) -> Broken | None:
    """Why old rows of the relation would not name a row of the table."""
    if schema.append_only:
        why = "an UPDATE or DELETE came for a table that is followed for inserts only"
        return Broken(schema.table, why, copy_again=False)
    sent = {column.name for column in relation.columns if column.key or relation.identity == "f"}
    if schema.whole_rows and relation.identity == "f":
        return None
    if schema.key and sent.issuperset(schema.key):
        return None
    missing = ", ".join(sorted(set(schema.key) - sent)) or "the whole row"
    why = f"its replica identity changed at the source: old rows do not carry {missing}"
    return Broken(schema.table, why)


def _decode_rows(
    messages: Messages, layout: _Layout, rows: Indexes, commits: npt.NDArray[np.int32]
) -> RowChanges | Broken:
    """One table's consecutive rows."""
    table = layout.schema.table
    ops = _OPS[messages.kind[rows]]
    changed = ops.any()
    if changed and layout.problem is not None:
        return layout.problem
    at = messages.begin[rows] + _ROW_HEAD_BYTES
    width = len(layout.relation.columns)
    old_rows, old = _old_tuples(messages, ops, at, width)
    new, ends = walk(messages, at, width)
    if (ends != messages.end[rows]).any():
        raise malformed("a row does not end where its message does")
    unchanged = _fill_unchanged(layout, new, old_rows, old) if changed else {}
    columns = [
        _array(messages, layout, index, new, len(rows)) for index in range(len(layout.places))
    ]
    before, moved = _before(messages, layout, new, old_rows, old, len(rows))
    return RowChanges(
        table=table,
        ops=pa.array(ops),
        rows=pa.RecordBatch.from_arrays(columns, schema=layout.arrow),
        commit=pa.array(commits),
        before=before,
        moved=moved,
        unchanged=unchanged,
    )


def _old_tuples(
    messages: Messages, ops: npt.NDArray[np.int8], at: Indexes, width: int
) -> tuple[Indexes, list[Cells]]:
    """The updates that carry their old row, and its cells. Moves `at` on to the new row."""
    marker = messages.octets[at - 1]
    is_new = marker == pgoutput.NEW_ROW
    if is_new.all() and not (ops == Op.DELETE).any():
        return np.empty(0, np.int64), []
    is_old = (marker == pgoutput.OLD_KEY) | (marker == pgoutput.OLD_ROW)
    fits = np.where(ops == Op.INSERT, is_new, np.where(ops == Op.DELETE, is_old, is_new | is_old))
    if not fits.all():
        raise malformed("a row with a tuple of the wrong kind")
    old_rows = np.flatnonzero((ops == Op.UPDATE) & is_old)
    if not len(old_rows):
        return old_rows, []
    old, ends = walk(messages, at[old_rows], width)
    if (ends >= messages.end[-1]).any() or (messages.octets[ends] != pgoutput.NEW_ROW).any():
        raise malformed("an update without its new row")
    at[old_rows] = ends + 1
    return old_rows, old


def _fill_unchanged(
    layout: _Layout, new: list[Cells], old_rows: Indexes, old: list[Cells]
) -> dict[str, pa.BooleanArray]:
    """Take values that were not sent again from the old row; tell which remain unknown."""
    unknown = {}
    for column, place in zip(layout.schema.columns, layout.places, strict=True):
        if place < 0:
            continue
        cells = new[place]
        left = cells.kind == pgoutput.VALUE_UNCHANGED
        if not left.any():
            continue
        if len(old_rows):
            have = left[old_rows] & (old[place].kind == pgoutput.VALUE_TEXT)
            to, source = old_rows[have], old[place].select(np.flatnonzero(have))
            cells.kind.put(to, source.kind)
            cells.begin.put(to, source.begin)
            cells.length.put(to, source.length)
            left = cells.kind == pgoutput.VALUE_UNCHANGED
        if left.any():
            unknown[column.name] = pa.array(left)
    return unknown


def _array(
    messages: Messages, layout: _Layout, index: int, cells: list[Cells], count: int
) -> pa.Array:
    column, place = layout.schema.columns[index], layout.places[index]
    if place < 0:
        return pa.nulls(count, layout.arrow.field(index).type)
    return _converted(layout, column, texts(messages, cells[place]), layout.arrow.field(index).type)


def _converted(
    layout: _Layout, column: Column, printed: pa.StringArray, arrow: pa.DataType
) -> pa.Array:
    try:
        return convert(printed, arrow)
    except Unfit as error:
        raise UnfaithfulValue(layout.schema.table, column.name, str(error)) from error


def _before(
    messages: Messages,
    layout: _Layout,
    new: list[Cells],
    old_rows: Indexes,
    old: list[Cells],
    count: int,
) -> tuple[pa.RecordBatch | None, pa.BooleanArray | None]:
    """The old identity of the updates that changed it."""
    identity = layout.identity
    if not len(old_rows) or not identity:
        return None, None
    moved = np.full(len(old_rows), layout.schema.whole_rows)
    columns = []
    for index in identity:
        place = layout.places[index]
        if place < 0:
            columns.append(pa.nulls(len(old_rows), layout.arrow.field(index).type))
            continue
        printed = texts(messages, old[place])
        if not layout.schema.whole_rows:
            now = texts(messages, new[place].select(old_rows))
            differs = pc.fill_null(pc.not_equal(printed, now), True)  # noqa: FBT003 - Arrow's signature
            moved |= differs.to_numpy(zero_copy_only=False)
        arrow = layout.arrow.field(index).type
        columns.append(_converted(layout, layout.schema.columns[index], printed, arrow))
    if not moved.any():
        return None, None
    spread = np.full(count, -1)
    spread[old_rows[moved]] = np.flatnonzero(moved)
    picks = pa.array(spread, mask=spread < 0)
    schema = pa.schema([layout.arrow.field(index) for index in identity])
    before = pa.RecordBatch.from_arrays([column.take(picks) for column in columns], schema=schema)
    return before, pa.array(spread >= 0)
