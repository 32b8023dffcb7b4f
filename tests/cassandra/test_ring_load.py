"""Rows loaded as files into a ring: each replica gets its own, and no other node does."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htapkit.model import TableId
from htapkit.spi import SourceOptions
from htapkit_cassandra import CassandraSource
from htapkit_cassandra.inputs import ParquetInput
from htapkit_cassandra.loading import Load, Wanted
from htapkit_cassandra.settings import parse_settings
from tests.fix_ring import CassandraRing

pytestmark = [pytest.mark.cassandra, pytest.mark.long]
_ROWS = 400


def _files_of_each(ring: CassandraRing, table: TableId) -> list[set[int]]:
    """The keys that each node has in its own files."""
    options = ring.settings(tables=[f"{table.schema}.*"])
    made = CassandraSource(SourceOptions("events", options, 5, 1, 10_000, 2**25, 1, None))
    with closing(made) as source, closing(source.snapshot([table], {})) as snapshot:
        splits = snapshot.splits(table)
        return [
            {key for batch in snapshot.read(split) for key in batch["k0"].to_pylist()}
            for split in splits
        ]


@pytest.mark.parametrize("cdc", ["false", "true"])
def test_every_replica_gets_its_rows(
    cassandra_ring: CassandraRing, tmp_path: Path, cdc: str
) -> None:
    """Of two replicas on three nodes; also where the rows go through the nodes' logs."""
    table = TableId("events", f"twice_{cdc}", "t")
    with cassandra_ring.nodes[0].session() as session:
        session.execute(
            f"CREATE KEYSPACE {table.schema} WITH replication = "
            "{'class': 'SimpleStrategy', 'replication_factor': 2}"
        )
        session.execute(
            f"CREATE TABLE {table.schema}.t (id int PRIMARY KEY, v text) WITH cdc = {cdc}"
        )
    ids = list(range(_ROWS))
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": ids, "v": [f"v{n}" for n in ids]}), path)
    settings = parse_settings(
        SourceOptions("events", cassandra_ring.settings(), 5, 1, 10_000, 2**25, 1, None)
    )
    load = Load(settings, tmp_path / "load", table, Wanted("sstable", "ALL"))
    with load.locked():
        prepared = load.prepare(ParquetInput(path), lambda *_: None)
        loaded = load.write(prepared, lambda *_: None)
    assert (loaded.compared.compared, loaded.compared.equal) == (_ROWS, _ROWS)
    found = _files_of_each(cassandra_ring, table)
    assert len(found) == 3
    assert sorted(key for keys in found for key in keys) == sorted([*ids, *ids])
