"""Rows of a lake version as DuckDB reads them: Parquet by Iceberg field id, in the hot types.

Everything is read with the names and types that the table has now: a column that was renamed or
widened since comes out right, one that the lake never had is NULL. What goes wrong here is the
lake's fault and comes out as LakeFailed; the hot store's file is never opened anew for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol

import duckdb
import pyarrow as pa

from htapkit.errors import LakeFailed, StoreFailed
from htapkit.hot.database import Database
from htapkit.hot.names import duckdb_type, key_columns, quote, statement
from htapkit.model import (
    LAKE_PLACE,
    Column,
    Finds,
    LakeFiles,
    Pin,
    TableId,
    TableSchema,
    lake_schema,
)

_WANTED = "htapkit_wanted"
_REST = "htapkit_rest"
_LITERALS_MAX = 1000
_SPANS_MAX = 200  # ranges of places, in one statement
_Span = tuple[bytes, bytes | None]
_BATCH_ROWS = 122_880  # DuckDB's row group


class LakeReader(Protocol):
    """What the hot store needs of the lake: `htapkit.lake.Lake` has it."""

    def files(self, table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        """The files of a version, less those without a row in [lower, upper). Raises LakeFailed."""
        ...


class RestRows:
    """The rows of files that need pyiceberg, as an Arrow source that can be read again and again.

    Its columns have the table's own names and types.
    """

    def __init__(
        self, columns: Sequence[Column], rest: Callable[[], Iterator[pa.RecordBatch]]
    ) -> None:
        """`rest` is that of LakeFiles; `columns` are those that the lake has."""
        self._ordinals = [str(c.ordinal) for c in columns]
        self._schema = pa.schema([pa.field(c.name, c.arrow) for c in columns])
        self._rest = rest

    def __arrow_c_schema__(self) -> object:
        """The columns."""
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows, from the beginning."""
        reader = pa.RecordBatchReader.from_batches(self._schema, self._batches())
        return reader.__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self._rest():
            columns = [
                batch.column(ordinal).cast(field.type)
                for ordinal, field in zip(self._ordinals, self._schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self._schema)


def rest_rows(schema: TableSchema, files: LakeFiles) -> RestRows | None:
    """What has to be registered for `lake_query`, if anything."""
    return RestRows(_held(schema, files), files.rest) if files.rest is not None else None


def lake_query(schema: TableSchema, files: LakeFiles, rest: str) -> str:
    """All rows of a version; `rest` is the unquoted name under which `rest_rows` is registered."""
    held = _held(schema, files)
    known = {c.ordinal for c in held}
    columns = ", ".join(
        quote(c.name)
        if c.ordinal in known
        else f"CAST(NULL AS {duckdb_type(c)}) AS {quote(c.name)}"
        for c in schema.columns
    )
    parts = []
    paths = ", ".join(_text(local_path(path)) for path in files.paths)
    if files.paths and all(c.ordinal in files.names for c in held):
        # Read by name, DuckDB knows from the files' own metadata how many rows there are.
        named = ", ".join(_named(c, files.names) for c in schema.columns)
        parts.append(statement("lake_files_by_name", columns=named, paths=paths))
    elif files.paths:
        fields = ", ".join(
            f"{files.columns[c.ordinal].field}: "
            f"{{name: {_text(c.name)}, type: {_text(duckdb_type(c))}, default_value: NULL}}"
            for c in held
        )
        parts.append(statement("lake_files", columns=columns, paths=paths, fields=fields))
    if files.rest is not None:
        parts.append(statement("select_all", columns=columns, table=quote(rest)))
    if not parts:
        none = ", ".join(
            f"CAST(NULL AS {duckdb_type(c)}) AS {quote(c.name)}" for c in schema.columns
        )
        return f"SELECT {none} WHERE false"
    return " UNION ALL ".join(parts)


def local_path(path: str) -> str:
    """A path of the file system; a `file:` URI becomes one."""
    return path.removeprefix("file:").replace("///", "/", 1) if path.startswith("file:") else path


@contextmanager
def lake_rows(
    database: Database, schema: TableSchema, files: LakeFiles
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """A cursor of its own, and a query of all rows of a version for use in it.

    Raises LakeFailed for what DuckDB cannot read.
    """
    cursor = database.cursor()
    try:
        rest = rest_rows(schema, files)
        if rest is not None:
            cursor.register(_REST, rest)
        yield cursor, lake_query(schema, files, _REST)
    except (duckdb.Error, pa.ArrowException) as error:
        raise unreadable(schema.table, error) from error
    finally:
        database.release(cursor)


def unreadable(table: TableId, error: BaseException) -> LakeFailed:
    """The lake's files could not be read."""
    line = str(error).strip().split("\n", 1)[0]
    return LakeFailed(f"{table}: its files in the lake cannot be read: {line}")


@dataclass(slots=True)
class LakeValues:
    """Looks up values of rows in the lake, for the writer."""

    database: Database
    reader: LakeReader | None = None

    def rows(self, schema: TableSchema, pin: Pin) -> Iterator[pa.RecordBatch]:
        """All rows of a version, in the table's Arrow schema. Raises StoreFailed."""
        if self.reader is None:
            raise StoreFailed(f"{schema.table} has rows in the lake, and no lake is at hand")
        try:
            files = self.reader.files(schema.table, pin, None, None)
            with lake_rows(self.database, schema, files) as (cursor, rows):
                for batch in cursor.sql(rows).to_arrow_reader(_BATCH_ROWS):
                    yield batch.cast(schema.arrow)
        except LakeFailed as error:
            raise StoreFailed(f"rows cannot be read for an archive: {error}") from error

    def at(
        self, schema: TableSchema, pin: Pin, places: pa.Table, times: tuple[int, int]
    ) -> Iterator[pa.RecordBatch]:
        """The rows at places of a reconciled table, in the columns of `lake_schema`.

        `places` has the columns `place`, k0, k1, …, and rows with a time in [first, last). Raises
        StoreFailed when the lake cannot be read now.
        """
        schema = lake_schema(schema)
        test = _meeting([(place, None) for place in places["place"].to_pylist()])
        with self._open(schema, pin, times, test) as (cursor, rows):
            cursor.register(_WANTED, places)
            near = _near(cursor, schema, places.num_rows)
            yield from _batches(
                cursor,
                schema,
                statement(
                    "lake_at",
                    rows=rows,
                    condition=near,
                    place=quote(LAKE_PLACE),
                    wanted=quote(_WANTED),
                ),
            )

    def between(self, schema: TableSchema, pin: Pin, spans: pa.Table) -> Iterator[pa.RecordBatch]:
        """The rows in [low, high) (`high` None: at `low`), perhaps twice, as `at` gives them.

        Single places are looked for at once, ranges by the hundred.
        """
        schema = lake_schema(schema)
        found = [(span["low"], span["high"]) for span in spans.to_pylist()]
        points = pa.table({"low": pa.array([s[0] for s in found if s[1] is None], pa.binary())})
        ranges = [span for span in found if span[1] is not None]
        for first in range(0, max(len(ranges), 1), _SPANS_MAX):
            some = ranges[first:][:_SPANS_MAX]
            at = points if first == 0 else points.slice(0, 0)
            test = _meeting([*((low, None) for low in at["low"].to_pylist()), *some])
            with self._open(schema, pin, (None, None), test) as (cursor, rows):
                cursor.register(_WANTED, at)
                text = f"SELECT * FROM ({rows}) AS kept WHERE {_in_spans(at, some)}"  # noqa: S608 - quoted
                yield from _batches(cursor, schema, text)

    @contextmanager
    def _open(
        self, schema: TableSchema, pin: Pin, times: tuple[int | None, int | None], test: Finds
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
        if self.reader is None:
            raise StoreFailed(f"{schema.table} has rows in the lake, and no lake is at hand")
        try:
            files = self.reader.files(schema.table, pin, *times)
            place = schema.column(LAKE_PLACE)
            if files.rest_where is not None and place is not None:
                files = replace(files, rest=files.rest_where(place.ordinal, test))
            with lake_rows(self.database, schema, files) as found:
                yield found
        except LakeFailed as error:
            raise StoreFailed(f"rows that are written late cannot be looked up: {error}") from error

    def look_up(
        self, schema: TableSchema, pin: Pin, keys: pa.Table, columns: Sequence[str]
    ) -> pa.Table:
        """For each row of `keys` (columns `number`, k0, k1, …) that is there: number, c0, c1, ….

        Raises StoreFailed when the lake cannot be read now: the batch comes again.
        """
        if self.reader is None:
            raise StoreFailed(
                f"{schema.table}: an update did not resend an unchanged value of a row that is in "
                "the lake, and this hot store was opened without one"
            )
        wanted = ", ".join(f"kept.{quote(c)} AS c{i}" for i, c in enumerate(columns))
        equal = " AND ".join(
            f"kept.{quote(name)} = wanted.k{i}" for i, name in enumerate(schema.key)
        )
        try:
            files = self.reader.files(schema.table, pin, None, None)
            with lake_rows(self.database, schema, files) as (cursor, rows):
                cursor.register(_WANTED, keys)
                text = statement(
                    "lake_values",
                    columns=wanted,
                    rows=rows,
                    condition=_near(cursor, schema, keys.num_rows),
                    equal=equal,
                    wanted=quote(_WANTED),
                )
                return cursor.sql(text).to_arrow_table()
        except LakeFailed as error:
            raise StoreFailed(f"an unchanged value cannot be looked up: {error}") from error


def _near(cursor: duckdb.DuckDBPyConnection, schema: TableSchema, count: int) -> str:
    """What narrows the lake's rows to about those wanted; literals prune files' row groups."""
    parts = []
    for i, (_, column) in enumerate(key_columns(schema)):
        name, key = quote(column.name), f"k{i}"
        if count > _LITERALS_MAX:
            wanted = f"SELECT {key} FROM {quote(_WANTED)}"  # noqa: S608 - quoted
            parts.append(f"(kept.{name} IN ({wanted})) IS TRUE")
            continue
        text = f"SELECT DISTINCT CAST({key} AS VARCHAR) FROM {quote(_WANTED)}"  # noqa: S608 - quoted
        found = [value for (value,) in cursor.execute(text).fetchall()]
        kind = duckdb_type(column)
        values = ", ".join(f"CAST({_text(value)} AS {kind})" for value in found)
        parts.append(f"kept.{name} IN ({values})")
    return " AND ".join(parts)


def _in_spans(points: pa.Table, ranges: Sequence[_Span]) -> str:
    """That a row lies in one of them; literals prune files' row groups."""
    place = f"kept.{quote(LAKE_PLACE)}"
    parts = []
    if points.num_rows > _LITERALS_MAX:
        parts.append(f"({place} IN (SELECT low FROM {quote(_WANTED)})) IS TRUE")  # noqa: S608 - quoted
    elif points.num_rows:
        parts.append(f"{place} IN ({', '.join(map(_bytes, points['low'].to_pylist()))})")
    for low, high in ranges:
        assert high is not None
        parts.append(f"({place} >= {_bytes(low)} AND {place} < {_bytes(high)})")
    return f"({' OR '.join(parts)})"


def _meeting(spans: Sequence[_Span]) -> Finds:
    """The test whether any of some places lies in one of these."""
    ordered = sorted((low, low + b"\0" if high is None else high) for low, high in spans)
    lows = [low for low, _ in ordered]
    ends = list(accumulate((high for _, high in ordered), max))

    def test(places: pa.Array) -> bool:
        for place in places.drop_null().to_pylist():
            number = bisect_right(lows, place) - 1
            if number >= 0 and place < ends[number]:
                return True
        return False

    return test


def _batches(
    cursor: duckdb.DuckDBPyConnection, schema: TableSchema, text: str
) -> Iterator[pa.RecordBatch]:
    for batch in cursor.sql(text).to_arrow_reader(_BATCH_ROWS):
        yield batch.cast(schema.arrow)


def _named(column: Column, names: Mapping[int, str]) -> str:
    """A column of files with these names, in its hot type; NULL where they do not have it."""
    held = quote(names[column.ordinal]) if column.ordinal in names else "NULL"
    return f"CAST({held} AS {duckdb_type(column)}) AS {quote(column.name)}"


def _held(schema: TableSchema, files: LakeFiles) -> list[Column]:
    return [c for c in schema.columns if c.ordinal in files.columns]


def _text(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


def _bytes(value: bytes) -> str:
    return f"unhex('{value.hex()}')"
