"""Large rows loaded as files: what has no room for them says so, and ends."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htapkit.errors import SourceRefused
from htapkit.model import TableId
from htapkit.spi import SourceOptions
from htapkit_cassandra.inputs import ParquetInput
from htapkit_cassandra.loading import Load, Wanted
from htapkit_cassandra.settings import parse_settings
from tests.fix_cassandra import Keyspace

pytestmark = [pytest.mark.cassandra, pytest.mark.long]


def test_a_program_without_memory_ends(keyspace: Keyspace, tmp_path: Path) -> None:
    """Its other threads would keep it running, and the load would wait for ever."""
    keyspace.session.execute(f"CREATE TABLE {keyspace.name}.t (k int PRIMARY KEY, v blob)")
    path = tmp_path / "rows.parquet"
    values = [n.to_bytes(4, "big") * 2**18 for n in range(100)]
    pq.write_table(pa.table({"k": range(100), "v": values}), path)
    options = keyspace.node.settings(helper_memory="48MB")
    settings = parse_settings(SourceOptions("events", options, 5, 1, 10_000, 2**25, 1, None))
    table = TableId("events", keyspace.name, "t")
    load = Load(settings, tmp_path / "load", table, Wanted("sstable", "ONE"))
    with load.locked():
        prepared = load.prepare(ParquetInput(path), lambda *_: None)
        with pytest.raises(SourceRefused, match=r"OutOfMemoryError.*; raise helper_memory"):
            load.write(prepared, lambda *_: None)
    assert not list(keyspace.session.execute(f"SELECT k FROM {keyspace.name}.t"))
