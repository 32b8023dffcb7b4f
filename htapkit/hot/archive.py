"""Archives: the rows that a source deleted, written in the transaction that takes them out.

An archive is a table of its own, beside the mirrored one, which nothing here changes. Never begins
or ends a transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from htapkit.hot.collapse import NotConsistent, departed
from htapkit.hot.evolve import alterations, widens
from htapkit.hot.horizon import horizon_column
from htapkit.hot.names import (
    column_definitions,
    duckdb_type,
    key_columns,
    name_list,
    quote,
    relation,
    statement,
    tombstones,
)
from htapkit.hot.patches import Patches
from htapkit.hot.prepared import Prepared
from htapkit.hot.records import Former, Record
from htapkit.hot.relations import Relation
from htapkit.hot.times import in_range
from htapkit.hot.transactions import Transaction
from htapkit.model import (
    DELETED_AT,
    NUMBER,
    OWN_COLUMNS,
    Column,
    Horizon,
    RowChanges,
    TableId,
    TableSchema,
    TableState,
    archive_of,
    archive_schema,
    followed,
    hot_relation,
    retire,
)

_log = logging.getLogger(__name__)

_TEXTS = frozenset({"text", "varchar"})


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive of one mirrored table, as a transaction sees it."""

    transaction: Transaction
    table: TableId  # the mirrored one

    def follow(self, schema: TableSchema, *, anew: bool = False) -> None:
        """Have an archive that rows of this schema fit into.

        Columns are told by ordinal; where the table may be another one of that name (`anew`), by
        their names, too. What a column had that the table no longer has, or has with another type,
        stays under another name. Raises NotConsistent where the names cannot be held.
        """
        record = self._record()
        if OWN_COLUMNS & {c.name.lower() for c in schema.columns}:
            raise NotConsistent("it has a column with a name of its archive's own")
        if record is None:
            self._create(archive_schema(schema))
            return
        middle, named = retire(record.schema, schema, _gone(record.schema, schema, anew=anew))
        now = archive_schema(schema, middle)
        if now == record.schema and record.state is TableState.FOLLOWING:
            return
        archive = archive_of(self.table)
        name = relation(archive)
        self.transaction.void(archive, "changed its columns")
        self.transaction.writer.forget(name)
        statements = [
            f"ALTER TABLE {name} RENAME COLUMN {quote(old)} TO {quote(new)}"
            for old, new in named.items()
        ]
        for text in [*statements, *alterations(name, middle, now)]:
            self.transaction.cursor.execute(text).fetchall()
        self.transaction.put(replace(record, schema=now, state=TableState.FOLLOWING, why=""))

    def put_deleted(
        self,
        rows: Relation,
        changes: Sequence[RowChanges],
        patches: Patches | None,
        horizon: Horizon | None,
    ) -> None:
        """Take in what these changes delete. Before they are brought in. Raises StoreFailed."""
        found = departed(rows.schema, changes)
        if found is None:
            return
        net, which = found
        gone, picks = rows.departed(net, patches, horizon)
        times = _times(changes).take(pa.array(which[picks]))
        self._put(gone, times)

    def put_all(self, record: Record, schema: TableSchema, time: int | None) -> None:
        """Take in all rows that the table has, hot and in the lake. Raises StoreFailed.

        `schema` is of the relation, `time` (microseconds since 1970) when they were deleted.
        """
        self._sweep(record, schema, "true", time)

    def put_lost(
        self, record: Record, name: str, schema: TableSchema, horizon: Horizon | None
    ) -> None:
        """Take in what the former copy has and the new one (relation `name`) has not.

        When that was deleted is not known. Raises StoreFailed.
        """
        assert record.former is not None
        former = record.former.schema
        if not former.key or former.whole_rows:
            self._put_lost_whole(former, name, schema)
            return
        pairs = [(c, _same(c, schema)) for c in former.key_columns]
        equal = " AND ".join(_equal(old, new) for old, new in pairs if new is not None)
        if len(pairs) > sum(new is not None for _, new in pairs):
            return  # no column is left to tell rows by
        where = statement("archive_lost", rows=name, equal=equal)
        column = horizon_column(former, horizon)
        if column is not None and horizon is not None:
            # The new copy has none of those, whether they are there or not.
            where += f" AND ({in_range(column, None, horizon.since)}) IS NOT TRUE"
        self._sweep(record, former, where, None)

    def erase(self, numbers: pa.Array) -> None:
        """Remove the rows with these numbers; those in the lake no longer count."""
        record = self._record()
        assert record is not None
        rows = self.transaction.writer.relation(relation(record.table), record.schema)
        keys = pa.table({NUMBER: numbers})
        count = rows.remove(keys, self.transaction.patches(record.schema))
        self.transaction.evicted(record.table, count)
        self.transaction.save_archive_numbers()

    def drop(self) -> None:
        """Remove it with all its rows. What the lake has of it no longer counts."""
        if self._record() is not None:
            self.transaction.untier(archive_of(self.table), "was removed")
            self.transaction.drop_relation(archive_of(self.table))
            self.transaction.remove(archive_of(self.table))

    def _record(self) -> Record | None:
        return self.transaction.record(archive_of(self.table))

    def _create(self, schema: TableSchema) -> None:
        cursor, name = self.transaction.cursor, relation(schema.table)
        cursor.execute(
            f"CREATE SCHEMA IF NOT EXISTS {quote(hot_relation(schema.table)[0])}"
        ).fetchall()
        self.transaction.drop(name)
        cursor.execute(f"CREATE TABLE {name} ({column_definitions(schema)})").fetchall()
        self.transaction.put(Record(schema, "", TableState.FOLLOWING, complete=True))

    def _put(self, rows: pa.Table, times: pa.Array) -> None:
        count = rows.num_rows
        if not count:
            return
        record = self._record()
        assert record is not None
        first = self.transaction.archive_numbers(count)
        made = {DELETED_AT: times, NUMBER: pa.array(range(first, first + count), pa.int64())}
        arrow = record.schema.arrow
        columns = []
        for field in arrow:
            if field.name in made:
                columns.append(made[field.name].cast(field.type))
            elif field.name in rows.schema.names:
                columns.append(rows[field.name].cast(field.type))
            else:
                columns.append(pa.nulls(count, field.type))
        into = self.transaction.writer.relation(relation(archive_of(self.table)), record.schema)
        into.insert(pa.Table.from_arrays(columns, schema=arrow))
        self._told(record, times, first)
        self.transaction.changed(archive_of(self.table), 0, count)

    def _told(self, record: Record, times: pa.Array, first: int) -> None:
        """A run that has begun must leave in hot what came below its line since.

        The rows were deleted at these times, and are numbered from `first` on.
        """
        run = self.transaction.run_of(record.table)
        if run is None:
            return
        patches = self.transaction.patches(record.schema)
        assert patches is not None
        late = pc.less(times, run.tiering.below[record.table])
        numbers = pa.array(range(first, first + len(times)), pa.int64()).filter(late)
        patches.touch(None, pa.table({NUMBER: numbers}))

    def _sweep(self, record: Record, schema: TableSchema, where: str, time: int | None) -> None:
        """Take in the rows of a relation, and of its part in the lake, that meet a condition."""
        self._insert(schema, f"{relation(self.table)} AS kept WHERE {where}", time)
        boundary = record.boundary
        if boundary is None:
            return
        pairs = key_columns(schema)
        keys = name_list(column.name for _, column in pairs)
        gone = name_list(name for name, _ in pairs)
        where += f" AND ({keys}) NOT IN (SELECT ({gone}) FROM {tombstones(self.table)})"  # noqa: S608 - quoted
        column = horizon_column(schema, record.horizon)
        if column is not None and record.horizon is not None:
            where += f" AND {in_range(column, record.horizon.since, None)}"
        chosen = Prepared.over(
            self.transaction.cursor,
            schema.arrow,
            lambda rows: f"SELECT * FROM {rows} AS kept WHERE {where}",  # noqa: S608 - quoted
        )
        for batch in self.transaction.writer.values.rows(schema, boundary.pin):
            rows = chosen.found(batch)
            self._put(rows, pa.array([time] * rows.num_rows, pa.int64()))
        chosen.close()

    def _put_lost_whole(self, former: TableSchema, name: str, schema: TableSchema) -> None:
        """The same of a table without a key: as a multiset of rows."""
        pairs = [(c, _same(c, schema)) for c in former.columns]
        if any(new is None or duckdb_type(new) != duckdb_type(old) for old, new in pairs):
            return  # no row is the same any more, so none is missed
        rows = statement(
            "archive_lost_whole",
            kept=name_list(old.name for old, _ in pairs),
            table=relation(self.table),
            now=name_list(new.name for _, new in pairs if new is not None),
            rows=name,
        )
        self._insert(former, f"({rows}) AS kept", None)

    def _insert(self, schema: TableSchema, rows: str, time: int | None) -> None:
        """Take in the rows of a FROM clause."""
        record = self._record()
        assert record is not None
        columns = name_list(c.name for c in schema.columns)
        moment = "NULL" if time is None else f"make_timestamptz(CAST({time} AS BIGINT))"
        first = self.transaction.archive_numbers(0)
        text = statement(
            "archive_insert",
            archive=relation(archive_of(self.table)),
            columns=columns,
            own=name_list((DELETED_AT, NUMBER)),
            moment=moment,
            before=str(first - 1),
            rows=rows,
        )
        count = int(self.transaction.cursor.execute(text).fetchall()[0][0])
        self.transaction.archive_numbers(count)
        self._told(record, pa.array([time] * count, pa.int64()), first)
        self.transaction.changed(archive_of(self.table), 0, count)


def follow_archive(transaction: Transaction, schema: TableSchema, *, anew: bool = False) -> None:
    """Have the archive of a table follow it, see `Archive.follow`; what cannot is left as it is."""
    table = schema.table
    record = transaction.record(table)
    archive = transaction.record(archive_of(table))
    # Also one that is no longer written: who may read its columns is asked by their names.
    if record is None or (archive is None and not record.keeps):
        return
    try:
        Archive(transaction, table).follow(schema, anew=anew)
    except NotConsistent as error:
        _log.warning("archive ends", extra={"table": str(table), "why": str(error)})
        transaction.put(replace(record, keeps=False, former=None))
        if archive is not None:
            transaction.put(replace(archive, state=TableState.SET_ASIDE, why=str(error)))


def clear_rows(transaction: Transaction, rows: Relation, time: int | None) -> None:
    """A table that follows was truncated: its rows go, into the archive if it has one."""
    table = rows.schema.table
    record = transaction.record(table)
    if record is not None and record.keeps:
        Archive(transaction, table).put_all(record, rows.schema, time)
    transaction.changed(table, rows.clear(), 0)
    transaction.untier(table, "was truncated")


def former_of(record: Record, *, exact: bool) -> Former | None:
    """What a table that stops was, for its archive; `exact` unless something was wrong with it."""
    if not record.keeps:
        return None
    if record.former is not None:
        return replace(record.former, follows=record.former.follows and exact)
    if not record.complete:
        return None
    # The changes that are kept aside for a paused table are not in it.
    return Former(record.schema, follows=exact and record.state is TableState.FOLLOWING)


def _times(changes: Sequence[RowChanges]) -> pa.Array:
    """When each change was committed, microseconds since 1970; NULL: not known."""
    parts = [
        pa.array(c.times, pa.int64()).take(c.commit)
        if c.times
        else pa.nulls(len(c.commit), pa.int64())
        for c in changes
    ]
    return pa.concat_arrays(parts)


def _gone(archive: TableSchema, schema: TableSchema, *, anew: bool) -> frozenset[int]:
    """The columns of an archive that do not become one of the table's."""
    after = {c.ordinal: c for c in schema.columns}
    gone = set()
    for column in archive.columns:
        ordinal = followed(column)
        if ordinal is None:
            continue
        now = after.get(ordinal)
        if now is None or (anew and now.name != column.name) or not _becomes(column, now):
            gone.add(column.ordinal)
    return frozenset(gone)


def _becomes(old: Column, new: Column) -> bool:
    """Whether every value of a column is one of the other, printed alike."""
    if duckdb_type(old) == duckdb_type(new):
        return old.type.name == new.type.name or new.type.name in _TEXTS
    return widens(old, new)


def _same(column: Column, schema: TableSchema) -> Column | None:
    """The column in another schema of its table: of that name, or else of that ordinal."""
    named = schema.column(column.name)
    return named or next((c for c in schema.columns if c.ordinal == column.ordinal), None)


def _equal(old: Column, new: Column) -> str:
    ours, theirs = f"kept.{quote(old.name)}", f"now.{quote(new.name)}"
    if duckdb_type(old) == duckdb_type(new):
        return f"{ours} = {theirs}"
    return f"CAST({ours} AS VARCHAR) = CAST({theirs} AS VARCHAR)"
