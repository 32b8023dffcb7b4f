"""The rows of a load before the first is written: read, kept on disk, their keys compared."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htapkit.model import TableId
from htapkit_cassandra import cql, spool
from htapkit_cassandra.destination import Destination
from htapkit_cassandra.fitting import LoadRefused, Target
from htapkit_cassandra.inputs import ParquetInput
from htapkit_cassandra.journal import Journal, State
from htapkit_cassandra.reading import ReadIn, SameKeys, pieces, read_in

_MIB = 2**20


def _read(folder: Path, columns: dict[str, tuple[str, str]], **given: list[object]) -> ReadIn:
    """Rows of a file into a table of these columns: their types and kinds."""
    pq.write_table(pa.table(given), folder / "rows.parquet")
    targets = tuple(
        Target(name, cql.parse(type_, {}), type_, kind) for name, (type_, kind) in columns.items()
    )
    to = Destination(
        TableId("s", "k", "t"), "", targets, cdc=False, followed=False, types=(), create="",
        release="5.0", partitioner="", mode="", cdc_on_repair=True,
    )  # fmt: skip
    return read_in(to, ParquetInput(folder), folder / "rows", folder / "rejected", lambda _: None)


KEYS = [
    ("int", "decimal", ["1.0", "1.00"], True),
    ("int", "decimal", ["0", "0.00"], True),
    ("int", "decimal", ["1.0", "1.01"], False),
    ("int", "frozen<set<int>>", ["[1, 2]", "[2, 1]"], True),
    ("int", "frozen<list<int>>", ["[1, 2]", "[2, 1]"], False),
    ("int", "frozen<map<int, int>>", ['{"1": 1, "2": 2}', '{"2": 2, "1": 1}'], True),
    ("int", "frozen<map<int, int>>", ['{"1": 1, "2": 2}', '{"2": 1, "1": 2}'], False),
    ("int", "frozen<list<decimal>>", ["[1.0]", "[1.00]"], True),
    ("int", "frozen<tuple<int, text>>", ["[1]", "[1, null]"], True),
    ("decimal", "", ["1.0", "1.00"], False),
    ("frozen<set<int>>", "", ["[1, 2]", "[2, 1]"], True),
    ("frozen<set<decimal>>", "", ["[1.0]", "[1.00]"], False),
]
"""A partition key's type, a clustering column's, values of the last of both, are they the same."""


@pytest.mark.parametrize(("partition", "clustering", "values", "same"), KEYS)
def test_keys_are_compared_as_the_node_does(
    tmp_path: Path, partition: str, clustering: str, values: list[object], same: bool
) -> None:
    """tests/cassandra/test_load.py asks the node."""
    columns = {"k": (partition, "partition_key")}
    given = {"k": values}
    if clustering:
        columns["c"] = (clustering, "clustering")
        given = {"k": [1, 1], "c": values}
    if not same:
        assert _read(tmp_path, columns, **given).rows == 2
        return
    with pytest.raises(SameKeys, match="1 rows have the key of an earlier one"):
        _read(tmp_path, columns, **given)


def test_static_columns_are_compared_without_the_order_of_sets(tmp_path: Path) -> None:
    """So are the partitions that share them."""
    columns = {
        "k": ("frozen<set<int>>", "partition_key"),
        "c": ("int", "clustering"),
        "s": ("set<int>", "static"),
    }
    both: list[object] = ["[1, 2]", "[2, 1]"]
    assert _read(tmp_path, columns, k=both, c=[1, 2], s=both).rejected == 0
    assert _read(tmp_path, columns, k=both, c=[1, 2], s=["[1]", "[2]"]).rejected == 1


def test_rows_are_cut_by_their_bytes(tmp_path: Path) -> None:
    """Neither a batch nor a chunk is much larger than its limit, whatever a row holds."""
    large, rolled = [b"x" * _MIB] * 40, random.Random(5)
    sizes = [rolled.choice([1, 10, _MIB]) for _ in range(60)]
    for values in (
        pa.array(large),
        pa.array(large).dictionary_encode(),
        pa.array([b"x" * size for size in sizes]),
        pa.array([b"small"] * 5_000),
    ):
        found = list(pieces(pa.record_batch([values], names=["v"])))
        assert pa.concat_arrays([piece["v"] for piece in found]) == values
        assert max(piece.num_rows for piece in found) <= spool.CHUNK_ROWS
        bytes_max = max(piece["v"].cast(pa.binary()).nbytes for piece in found)
        assert bytes_max <= spool.CHUNK_BYTES + 4_096
        assert len(found) <= 16
    path = tmp_path / "rows.parquet"
    different = [rolled.randbytes(_MIB) for _ in range(40)]
    pq.write_table(pa.table({"k": range(40), "v": different}), path, row_group_size=20)
    for part in ParquetInput(path).parts():
        assert max(batch.num_rows for batch in part.batches) <= 32


def _spool(path: Path) -> None:
    with spool.SpoolWriter(path) as writer:
        writer.write([[b"a", b"b"], [b"c", None]])


@pytest.mark.parametrize("damage", [b"", bytes(16), b"\x7f" * 16, b"\0\0\0\1\x7f\0\0\0"])
def test_rows_that_are_damaged_are_refused(tmp_path: Path, damage: bytes) -> None:
    """A disk that lost its power may give a short file, or pages of zeros."""
    path = tmp_path / "rows"
    _spool(path)
    assert list(spool.chunks(path, 2, 2)) == [[(b"a", b"c"), (b"b", None)]]
    path.write_bytes(damage)
    with pytest.raises(LoadRefused, match=r"rows is damaged, .* --restart"):
        list(spool.chunks(path, 2, 2))


def test_a_journal_that_is_damaged_is_refused(tmp_path: Path) -> None:
    """What was written is what is read."""
    journal = Journal(tmp_path / "s.t")
    with journal.locked():
        state = State("query", "id", ("k", "v"), 5, 1, read_at=7, written_at=9)
        journal.write(state)
        journal.write(replace(state, written=3))
        assert journal.read() == replace(state, written=3)
        for damage in ("", "{}", "[]", '{"input": "query"}'):
            (tmp_path / "s.t" / "load.json").write_text(damage)
            with pytest.raises(LoadRefused, match="--restart"):
                journal.read()
        journal.clear()
        assert journal.read() is None
