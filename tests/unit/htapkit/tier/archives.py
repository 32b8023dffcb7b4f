"""A store, its lake and one archive that lies in both. No test of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table

from htapkit.config import TableConfig
from htapkit.hot import HotLimits, HotStore
from htapkit.lake import Lake, LakeSettings
from htapkit.metrics import Metrics
from htapkit.model import DELETED_AT, NUMBER, TableId, TableSchema, archive_of
from htapkit.query import whole_rows
from htapkit.tier import Erasure, Retention, Rule, Target, Tierer
from htapkit.tier.rules import rule_of
from tests.unit.htapkit.hot.building import INT4, INT8, TEXT, Rows, batch_of, covers, schema_of

DAY = 86_400_000_000
PLAIN = schema_of("plain", {"id": INT8, "a": INT4, "s": TEXT})
ARCHIVE = archive_of(PLAIN.table)
NAME = ("archive", "shop%2Epublic", "plain")
CONFIG = TableConfig(hot=86_400.0)


@dataclass
class Side:
    """A store and its lake, side by side."""

    folder: Path
    lake: Lake = field(init=False)
    store: HotStore = field(init=False)

    def open(self) -> None:
        settings = LakeSettings.local(self.folder)
        self.lake = Lake(settings)
        limits = HotLimits(memory_bytes=2**29, disk_free_bytes=0)
        path = self.folder / "hot.duckdb"
        self.store = HotStore(path, limits, warehouse=settings.warehouse, lake=self.lake)
        self.tierer = Tierer(self.store, self.lake, Metrics(), rows_max=1000)
        self.store.archives.keep(frozenset({PLAIN.table}))

    def close(self) -> None:
        self.store.close()
        self.lake.close()

    def delete(self, day: int, schema: TableSchema, *keys: int) -> None:
        rows = Rows(schema)
        for key in keys:
            rows.delete(key)
        self.store.apply(batch_of(day * DAY, rows.changes()), covers)

    def tier(self, day: int) -> None:
        self.tierer.tier([Target(ARCHIVE, self.rule(ARCHIVE), day * DAY)], lambda *_: None)

    def rows(self, *, hot: bool = False) -> list[dict[str, Any]]:
        """What the archive has, NULLs left out, with the day of the deletion and the number."""
        catalog = self.store.catalog
        asked = whole_rows(self.lake.files, catalog, ARCHIVE)
        sql = 'SELECT * FROM "archive.shop.public"."plain"' if hot else asked.sql
        lake = () if hot else asked.lake
        with self.store.read(sql, catalog_version=catalog.version, lake=lake) as read:
            return plainly([row for batch in read.batches() for row in batch.to_pylist()])

    def numbers(self, *keys: int) -> pa.Array:
        """Of the archived rows with these keys."""
        return pa.array([row[NUMBER] for row in self.rows() if row["id"] in keys], pa.int64())

    def rule(self, table: TableId) -> Rule:
        return rule_of(self.store.catalog.tables[table].schema, CONFIG)

    def erase(self, condition: str) -> int:
        """How many rows left the archive."""
        retention = Retention(self.store, self.lake, Metrics())
        erasure = Erasure(self.store, self.lake, self.tierer, retention, 0.0)
        return erasure.erase(PLAIN.table, self.rule, condition, lambda *_: None).archived

    def iceberg(self) -> Table:
        """As any other engine finds it."""
        settings = LakeSettings.local(self.folder)
        return load_catalog(settings.name, **settings.catalog).load_table(NAME)

    def fields(self) -> dict[str, int]:
        return {each.name: each.field_id for each in self.iceberg().schema().fields}


def plainly(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made = []
    for row in sorted(rows, key=lambda each: each[NUMBER]):
        found = {name: value for name, value in row.items() if value is not None}
        time = found.pop(DELETED_AT)
        made.append({**found, "day": round(time.timestamp() * 1e6 / DAY)})
    return made
