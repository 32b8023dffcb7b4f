"""`verify`: any number of tables, for as long as it takes, at one position."""

from __future__ import annotations

import itertools
import time
from functools import partial
from pathlib import Path

from htapkit.errors import LakeFailed
from htapkit.hot import Asked, HotLimits, HotStore
from htapkit.ingest import Mirror, MirrorOptions, verify
from htapkit.metrics import Metrics
from htapkit.model import (
    Catalog,
    Column,
    LakeFiles,
    Op,
    SqlType,
    TableId,
    TableSchema,
)
from htapkit.query import whole_rows
from htapkit.testing.memory import MemorySource, RowEvent, Server
from htapkit.testing.stack import wait_until

TABLES = [TableId("mem", "public", f"t{number}") for number in range(5)]
COLUMNS = (Column("id", SqlType("int4", 23), 1), Column("v", SqlType("text", 25), 2))
KEYS = range(10)


def no_files(*_: object) -> LakeFiles:
    """There is no lake."""
    raise NotImplementedError


def fails_at_first(catalog: Catalog, table: TableId) -> Asked:
    """The first table cannot be read here."""
    if table == TABLES[0]:
        raise LakeFailed("no such file")
    return whole_rows(no_files, catalog, table)


def test_more_tables_than_reads_and_longer_than_a_statement(tmp_path: Path) -> None:
    """What is missing in one of them is found."""
    server = Server("mem", {t: TableSchema(t, COLUMNS, ("id",)) for t in TABLES})
    server.commit(*(RowEvent(t, Op.INSERT, (key, "v")) for t in TABLES for key in KEYS))
    keys = itertools.count(100)

    def meanwhile() -> None:
        """While a table is read at the source, longer than a statement may take, others write."""
        time.sleep(0.1)
        key = next(keys)
        server.commit(*(RowEvent(t, Op.INSERT, (key, "")) for t in TABLES))

    limits = HotLimits(reads=2, read_seconds=0.01, disk_free_bytes=0)
    with HotStore(tmp_path / "hot.duckdb", limits) as store:
        options = MirrorOptions(watch_interval_seconds=0.02)
        source = MemorySource(server)
        mirror = Mirror("mem", source, store, Metrics(), options)
        mirror.start()
        try:
            wait_until(lambda: all(map(store.catalog.readable, TABLES)), 60, lambda: "")
            source.during_copy = meanwhile
            del server.rows[TABLES[-1]][7,]
            result = verify(mirror, store, partial(whole_rows, no_files), [])
            partly = verify(mirror, store, fails_at_first, TABLES)
        finally:
            mirror.stop()
    assert [t.why for t in result.tables] == [""] * 5
    assert [t.equal for t in result.tables] == [True] * 4 + [False]
    assert result.tables[-1].examples == ("7",)
    first = result.tables[0]
    assert first.rows_source == first.rows_copy
    assert result.tables[-1].rows_copy == first.rows_copy
    failed = partly.tables[0]
    assert (failed.rows_source, failed.rows_copy, failed.why) == (None, None, "no such file")
    assert [t.equal for t in partly.tables] == [False] + [True] * 3 + [False]
