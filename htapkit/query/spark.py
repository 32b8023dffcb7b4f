"""Statements that a Spark runs on the lake alone, where the lake alone has the answer.

A table's rows in a range of times are those of its pinned version if nothing of them is hot and
nothing has a tombstone. That is looked up in one snapshot of the hot store, whose positions are the
answer's; the version is then read as it is, whatever changes meanwhile, because it never does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from htapkit.engines import EngineRows, ReadingEngine
from htapkit.errors import CatalogChanged, EngineFailed, NotRoutable
from htapkit.hot import HotStore, changed_query
from htapkit.model import Catalog, Column, Position, SqlType, TableId, native_arrow
from htapkit.plan import (
    LakeScan,
    LocalQuery,
    SparkTable,
    SparkType,
    UnprovenError,
    bound,
    moment_text,
    settled,
    with_tables,
)
from htapkit.query.arms import Files


@dataclass(frozen=True, slots=True)
class Spark:
    """A Spark, and where it finds what in the lake."""

    engine: ReadingEngine
    files: Files
    identifier: Callable[[TableId], tuple[str, ...]]
    seconds_max: float  # of one statement


class SparkRead:
    """A running read, like the hot store's."""

    def __init__(
        self,
        rows: EngineRows,
        schema: pa.Schema,
        positions: Mapping[str, Position],
        committed_at: Mapping[str, datetime | None],
        seconds_max: float,
    ) -> None:
        """It ends by itself after `seconds_max`."""
        self.schema = schema
        self.positions = positions
        self.committed_at = committed_at
        self._rows = rows
        why = f"limits.statement_time: it ran longer than {seconds_max:g} s"
        self._late = threading.Timer(seconds_max, rows.cancel, (why,))
        self._late.daemon = True
        self._late.start()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows. Raises EngineFailed, QueryCancelled."""
        for batch in self._rows.batches():
            if batch.num_columns != len(self.schema):
                raise EngineFailed("Spark gives other columns than were asked for")
            columns = [
                column.cast(field.type)
                for column, field in zip(batch.columns, self.schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def cancel(self, why: str = "the statement was cancelled") -> None:
        """Stop it, there as well."""
        self._rows.cancel(why)

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        self._late.cancel()
        self._rows.close()


def run_on_spark(
    query: LocalQuery, store: HotStore, values: Sequence[object], version: int, spark: Spark
) -> SparkRead:
    """Start `query`, which was planned for it on this version of the catalog.

    Raises CatalogChanged (plan again), NotRoutable (rows have changed below the boundary, or values
    ask for rows above it), LakeFailed, LimitReached, StoreFailed.
    """
    assert query.spark is not None
    catalog = store.catalog
    if catalog.version != version:
        raise CatalogChanged(f"the catalog moved on from version {version}")
    looks = []
    for scan in query.scans:
        status = catalog.status(scan.table)
        if status is None or status.boundary is None:
            raise CatalogChanged(f"{scan.table} has no part in the lake any more")
        below = status.boundary.below
        lower, upper = settled(scan, query.parameters, values)
        if upper is None or upper > below:
            raise NotRoutable(
                f"{scan.table}: the values ask for times up to {_shown(upper)}, and the boundary "
                f"between hot and lake is {_shown(below)}"
            )
        looks.append(changed_query(status.schema, status.boundary.column, lower, upper))
    positions, committed_at, now = _look(query, store, version, looks)
    tables = [_table(scan, catalog, spark, now) for scan in query.scans]
    try:
        sql = bound(with_tables(query.spark, tables), query.parameters, values)
    except UnprovenError as refusal:
        raise NotRoutable(str(refusal)) from refusal
    schema = pa.schema(
        [(f"c{at}", arrow_type(type_)) for at, type_ in enumerate(query.spark.columns, 1)]
    )
    rows = spark.engine.run(sql)
    return SparkRead(rows, schema, positions, committed_at, spark.seconds_max)


def _shown(micros: int | None) -> str:
    return "infinity" if micros is None else moment_text(micros)


def _table(scan: LakeScan, catalog: Catalog, spark: Spark, now: int) -> SparkTable:
    status = catalog.status(scan.table)
    assert status is not None
    boundary, horizon = status.boundary, status.horizon
    assert boundary is not None
    found = spark.files(scan.table, boundary.pin, None, None)
    columns = tuple(c for c in status.schema.columns if c.name in scan.columns)
    since: tuple[Column, int] | None = None
    if horizon is not None:
        kept = next((c for c in status.schema.columns if c.ordinal == horizon.column), None)
        if kept is None:
            raise NotRoutable(f"{scan.table}: the column of its retention is gone")
        since = kept, horizon.since
    return SparkTable(
        scan.name,
        scan.table,
        spark.identifier(scan.table),
        boundary.pin.snapshot,
        columns,
        found.columns,
        since,
        now if found.first_end is not None else None,
    )


def _look(
    query: LocalQuery, store: HotStore, version: int, looks: Sequence[str]
) -> tuple[Mapping[str, Position], Mapping[str, datetime | None], int]:
    """The positions at which the lake alone has all rows that are asked for, and the moment."""
    union = " UNION ALL ".join(looks)
    with store.read(union, sources=query.sources, catalog_version=version) as read:
        found = [row for batch in read.batches() for row in batch.to_pylist()]
        for scan, row in zip(query.scans, found, strict=True):
            if any(row.values()):
                raise NotRoutable(
                    f"{scan.table}: rows below its boundary have changed since its last tiering "
                    "run, and Spark reads the lake alone; after the next run it has them"
                )
        return read.positions, read.committed_at, read.now


def arrow_type(type_: SparkType) -> pa.DataType:
    """The type in which a column goes on: the hot store's own."""
    if type_.name == "decimal":
        return pa.decimal128(type_.digits, type_.scale)
    found = native_arrow(SqlType(type_.name, 0))
    assert found is not None, "Spark computes no type that is kept as text"
    return found
