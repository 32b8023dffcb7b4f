"""A lake of plain Parquet files with Iceberg's field ids, for tests of the hot store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from htapkit.errors import LakeFailed
from htapkit.hot import Export, HotLimits, HotStore, LakeArm, table_query
from htapkit.model import LakeColumn, LakeFiles, Pin, TableId, TableSchema
from tests.unit.htapkit.hot.building import INT8, TEXT, TIMESTAMPTZ, schema_of

DAY = 86_400_000_000
T = schema_of("t", {"id": INT8, "ts": TIMESTAMPTZ, "s": TEXT})
TS = 2


def at(days: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)


ROWS = [(1, at(1), "one"), (2, at(2), "two"), (3, at(3), "three"), (4, None, "four")]

ICEBERG = {
    pa.int16(): ("int", pa.int32()),
    pa.int32(): ("int", pa.int32()),
    pa.int64(): ("long", pa.int64()),
    pa.string(): ("string", pa.string()),
    pa.float32(): ("float", pa.float32()),
    pa.float64(): ("double", pa.float64()),
    pa.bool_(): ("boolean", pa.bool_()),
    pa.binary(): ("binary", pa.binary()),
    pa.date32(): ("date", pa.date32()),
    pa.time64("us"): ("time", pa.time64("us")),
    pa.timestamp("us"): ("timestamp", pa.timestamp("us")),
    pa.timestamp("us", "UTC"): ("timestamptz", pa.timestamp("us", "UTC")),
}


def iceberg(arrow: pa.DataType) -> tuple[str, pa.DataType]:
    if pa.types.is_decimal(arrow):
        return f"decimal({arrow.precision}, {arrow.scale})", arrow
    return ICEBERG[arrow]


@dataclass
class PlainLake:
    """Every commit writes a version anew; field ids have nothing to do with ordinals.

    All that it knows is in its folder: a version is a JSON file beside its Parquet files.
    """

    folder: Path
    as_rest: bool = False  # give the rows as those of files that need pyiceberg
    fails: bool = False

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def commit(
        self,
        run_id: str,
        schema: TableSchema,
        base: Pin | None,
        gone: pa.Table,
        rows: Iterable[pa.RecordBatch],
    ) -> Pin:
        came = pa.Table.from_batches(list(rows), schema.arrow)
        columns = {c.ordinal: c for c in schema.columns}
        kinds = {o: iceberg(c.arrow)[1] for o, c in columns.items()}
        parts = [pa.table({str(o): came[c.name].cast(kinds[o]) for o, c in columns.items()})]
        if base is not None:
            old = self.rows(base)
            keys = [str(c.ordinal) for n in schema.key if (c := schema.column(n)) is not None]
            dead = {tuple(r.values()) for r in gone.to_pylist()}
            alive = [tuple(r[k] for k in keys) not in dead for r in old.to_pylist()]
            old = old.filter(pa.array(alive, pa.bool_()))
            kept = {
                str(o): old[str(o)].cast(kind)
                if str(o) in old.column_names
                else pa.nulls(old.num_rows, kind)
                for o, kind in kinds.items()
            }
            parts.insert(0, pa.table(kept))
        fields = {o: LakeColumn(3_000_000 - o, iceberg(c.arrow)[0]) for o, c in columns.items()}
        return self._write(run_id, schema.table, fields, pa.concat_tables(parts))

    def same(self, table: TableId, pin: Pin) -> Pin:
        """Another version with the same rows."""
        return self._write("", table, self.columns(pin), self.rows(pin))

    def find(self, run_id: str, table: TableId) -> Pin | None:
        """What `commit` made for a run."""
        for path in self.folder.glob("*.json"):
            found = json.loads(path.read_text())
            if (found["run"], found["table"]) == (run_id, str(table)):
                return Pin(str(path), found["number"], found["rows"])
        return None

    def columns(self, pin: Pin) -> dict[int, LakeColumn]:
        found = json.loads(Path(pin.metadata).read_text())["columns"]
        return {int(ordinal): LakeColumn(*column) for ordinal, column in found.items()}

    def paths(self, pin: Pin) -> tuple[str, ...]:
        return tuple(json.loads(Path(pin.metadata).read_text())["paths"])

    def rows(self, pin: Pin) -> pa.Table:
        """All rows of a version; the columns are named by ordinal."""
        columns = self.columns(pin)
        ordinals = {column.field: str(ordinal) for ordinal, column in columns.items()}
        parts = [pq.read_table(path.removeprefix("file://")) for path in self.paths(pin)]
        named = []
        for part in parts:
            fields = [int(f.metadata[b"PARQUET:field_id"]) for f in part.schema]
            named.append(pa.table(part.columns, names=[ordinals[f] for f in fields]))
        return pa.concat_tables(named)

    def _write(
        self, run_id: str, table: TableId, columns: dict[int, LakeColumn], rows: pa.Table
    ) -> Pin:
        number = len(list(self.folder.glob("*.json"))) + 1
        arrow = pa.schema(
            [
                pa.field(
                    f"old name {f.name}",
                    f.type,
                    metadata={b"PARQUET:field_id": str(columns[int(f.name)].field).encode()},
                )
                for f in rows.schema
            ]
        )
        half = rows.num_rows // 2
        paths = []
        for index, part in enumerate((rows.slice(0, half), rows.slice(half))):
            path = self.folder / f"{table.name}-{number}-{index}.parquet"
            pq.write_table(pa.table(part.columns, schema=arrow), path, row_group_size=100)
            paths.append(f"file://{path}")
        version = {
            "run": run_id,
            "table": str(table),
            "number": number,
            "rows": rows.num_rows,
            "columns": {ordinal: [c.field, c.type] for ordinal, c in columns.items()},
            "paths": paths,
        }
        metadata = self.folder / f"{number}.json"
        unfinished = metadata.with_suffix(".new")
        unfinished.write_text(json.dumps(version))
        unfinished.rename(metadata)
        return Pin(str(metadata), number, rows.num_rows)

    def files(self, table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        """All files, whatever the bounds: pruning may always leave rows that do not match."""
        assert lower is None or upper is None or lower <= upper
        if self.fails:
            raise LakeFailed(f"{table}: the catalog does not answer")
        if not self.as_rest:
            return LakeFiles(pin, self.columns(pin), self.paths(pin), pin.rows)

        def rest() -> Iterator[pa.RecordBatch]:
            rows = self.rows(pin)
            large = [
                f.with_type(pa.large_string()) if f.type == pa.string() else f for f in rows.schema
            ]
            yield from rows.cast(pa.schema(large)).to_batches()

        return LakeFiles(pin, self.columns(pin), (), 0, rest=rest)


def arm(store: HotStore, lake: PlainLake, table: TableId, name: str = "htapkit lake 1") -> LakeArm:
    status = store.catalog.tables[table]
    assert status.boundary is not None
    files = lake.files(table, status.boundary.pin, None, None)
    return LakeArm(name, status.schema, files, horizon=status.horizon)


def whole_rows(store: HotStore, lake: PlainLake, schema: TableSchema) -> list[tuple[Any, ...]]:
    """Hot rows and lake rows of a table."""
    status = store.catalog.tables[schema.table]
    sql = table_query(schema)
    arms = []
    if status.boundary is not None:
        arms = [arm(store, lake, schema.table)]
        sql += ' UNION ALL SELECT * FROM "htapkit lake 1"'
    with store.read(sql, catalog_version=store.catalog.version, lake=arms) as read:
        rows = [tuple(r.values()) for b in read.batches() for r in b.to_pylist()]
    return sorted(rows, key=str)


def write_run(lake: PlainLake, export: Export, tables: Sequence[TableId]) -> dict[TableId, Pin]:
    """The lake's part of a run."""
    pins = {}
    for table in tables:
        boundary = export.boundary(table)
        pins[table] = lake.commit(
            export.run.id,
            export.schema(table),
            boundary.pin if boundary else None,
            export.tombstones(table),
            export.rows(table),
        )
    return pins


def tier(store: HotStore, lake: PlainLake, schema: TableSchema, below: int, column: int) -> None:
    """One whole run of one table."""
    table = schema.table
    with store.begin_run(f"run {uuid.uuid4().hex}", {table: below}, {table: column}) as export:
        pins = write_run(lake, export, [table])
    store.finish_run(export.run.id, pins)


def opened(path: Path, lake: PlainLake) -> HotStore:
    limits = HotLimits(memory_bytes=2**29, disk_free_bytes=0)
    return HotStore(path, limits, warehouse=f"file://{lake.folder}", lake=lake)


def boundary_of(store: HotStore, schema: TableSchema = T) -> Any:
    return store.catalog.tables[schema.table].boundary


def beside(store: HotStore) -> list[str]:
    """Relations that belong to a table and are not its rows."""
    sql = "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '%$%'"
    with store.read(sql) as read:
        return [name for b in read.batches() for name in b.column(0).to_pylist()]
