"""Files' rows are compared with what earlier ones brought, whatever else happens meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from htapkit.config import TableConfig
from htapkit.hot import HotLimits, HotStore
from htapkit.lake import Lake, LakeSettings
from htapkit.model import LakeFiles, Pin, TableId, history_of
from htapkit.tier import History
from htapkit.tier.rules import rule_of
from tests.unit.htapkit.hot.lakes import ROWS, T
from tests.unit.htapkit.hot.test_store import follow

OTHER = TableId("lake", "public", "other")


class Meddled(Lake):
    """While a table's files are looked up, a version of another import comes."""

    store: HotStore

    def files(self, table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        (ours,) = [each for each in self.store.imports.all() if each.table == history_of(T.table)]
        self.store.imports.put(replace(ours, schema=replace(T, table=OTHER)))
        return super().files(table, pin, lower, upper)


def test_another_import_changes_meanwhile(tmp_path: Path) -> None:
    """A backfill of rows that are there changes nothing, and does not fail."""
    path = tmp_path / "rows.parquet"
    rows = [dict(zip(T.arrow.names, row, strict=True)) for row in ROWS[:3]]
    pq.write_table(pa.Table.from_pylist(rows, schema=T.arrow), path)
    limits, settings = HotLimits(disk_free_bytes=0), LakeSettings.local(tmp_path / "data")
    hot = tmp_path / "hot.duckdb"
    with (
        Meddled(settings) as lake,
        HotStore(hot, limits, warehouse=settings.warehouse, lake=lake) as store,
    ):
        lake.store = store
        follow(store, T, [])
        history = History(store, lake, tmp_path / "rejects", 0.0)
        rule = rule_of(T, TableConfig(time_column="ts"))
        counts = []
        for _ in range(2):
            span = (None, None)
            done = history.bring([path], rule, span, lambda: (), T.table, lambda *_: None)
            counts.append((done.added, done.unchanged, done.rejected))
        assert OTHER in {each.table for each in store.imports.all()}
    assert counts == [(3, 0, 0), (0, 3, 0)]
