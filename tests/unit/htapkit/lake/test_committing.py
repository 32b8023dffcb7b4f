"""Commits and other writers: what comes in between, and what a failure leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from htapkit.errors import LakeFailed, LakeRefused
from htapkit.lake import Lake
from htapkit.model import TableId
from tests.unit.htapkit.lake.building import (
    DAY,
    LAYOUT,
    ORDERS,
    TABLE,
    batch,
    keys,
    lake_in,
    model,
    other_engine,
    parquet_files,
    rows_of,
    run,
)

FIRST = [(n, n % 5 * DAY + n, "a" * (n % 7)) for n in range(1, 101)]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with lake_in(tmp_path) as opened:
        yield opened


def test_a_compaction_by_others_is_kept(lake: Lake) -> None:
    """A head that is only `replace` away from the base changed no row: its files are used."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    more = [(n, n % 5 * DAY, "b") for n in range(200, 220)]
    base = lake.commit(run(2), ORDERS, LAYOUT, base, None, [batch(ORDERS, more)])
    compacted = lake.compact(TABLE, base)
    pin = lake.commit(run(3), ORDERS, LAYOUT, base, keys(ORDERS, [1, 200]), [])
    assert rows_of(lake, pin, ORDERS) == {
        key: row for key, row in model([*FIRST, *more]).items() if key not in {1, 200}
    }
    kept = set(lake.files(TABLE, compacted, None, None).paths)
    assert len(kept & set(lake.files(TABLE, pin, None, None).paths)) == 3


def test_a_change_by_others_is_not_followed(lake: Lake, tmp_path: Path) -> None:
    """Rows that another engine added or removed do not count, before and after our next commit."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    other_engine(tmp_path).delete("at < '1970-01-02T00:00:00+00:00'")
    assert rows_of(lake, base, ORDERS) == model(FIRST)
    pin = lake.commit(run(2), ORDERS, LAYOUT, base, keys(ORDERS, [1]), [])
    assert rows_of(lake, pin, ORDERS) == model(row for row in FIRST if row[0] != 1)


def test_another_writer_in_the_middle(lake: Lake, tmp_path: Path) -> None:
    """A commit of another engine while ours is written: ours is put onto the right version."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    new = [(901, 0, "x")]

    def rows() -> Iterator[pa.RecordBatch]:
        yield batch(ORDERS, new)
        other_engine(tmp_path).delete("at < '1970-01-02T00:00:00+00:00'")

    pin = lake.commit(run(2), ORDERS, LAYOUT, base, keys(ORDERS, [1]), rows())
    assert rows_of(lake, pin, ORDERS) == model([*(r for r in FIRST if r[0] != 1), *new])


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_history_goes_on_from_what_others_left(lake: Lake, tmp_path: Path, when: str) -> None:
    """No source could bring such a table's rows again: nothing that others did is left behind."""
    table = TableId("history", "shop", "orders")
    schema = replace(ORDERS, table=table)
    base = lake.commit(run(1, table=table), schema, LAYOUT, None, None, [batch(schema, FIRST)])

    def delete() -> None:
        other_engine(tmp_path, table).delete("at < '1970-01-02T00:00:00+00:00'")

    def rows() -> Iterator[pa.RecordBatch]:
        yield batch(schema, [(901, 0, "x")])
        if when == "meanwhile":
            delete()

    if when == "before":
        delete()
    with pytest.raises(LakeRefused, match="changed meanwhile"):
        lake.commit(run(2, table=table), schema, LAYOUT, base, None, rows())
    left = lake.look(lake.identifier(table), table).pin
    expected = model(row for row in FIRST if row[1] >= DAY)
    assert rows_of(lake, left, schema) == expected


def test_a_compaction_in_the_middle_fails_the_commit(lake: Lake, tmp_path: Path) -> None:
    """The files that were to be replaced are gone: the run is made again, and nothing is left."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    base = lake.commit(run(2), ORDERS, LAYOUT, base, None, [batch(ORDERS, [(901, 0, "x")])])

    def rows() -> Iterator[pa.RecordBatch]:
        yield batch(ORDERS, [(902, 0, "y")])
        with lake_in(tmp_path) as second:
            pin = second.compact(TABLE, base)
            compacted.update(Path(path) for path in second.files(TABLE, pin, None, None).paths)

    before, compacted = parquet_files(tmp_path), set[Path]()
    with pytest.raises(LakeFailed, match="made again"):
        lake.commit(run(3), ORDERS, LAYOUT, base, keys(ORDERS, [5]), rows())
    assert lake.find(run(3), TABLE) is None
    assert parquet_files(tmp_path) == before | compacted
    pin = lake.commit(run(4), ORDERS, LAYOUT, base, keys(ORDERS, [5]), [])
    assert rows_of(lake, pin, ORDERS) == model([*(r for r in FIRST if r[0] != 5), (901, 0, "x")])


class Killed(BaseException):
    """The process dies here."""


def test_a_death_while_files_are_written(lake: Lake, tmp_path: Path) -> None:
    """Nothing was committed, nothing was changed, and the files that had been begun are gone."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    before = parquet_files(tmp_path)

    def rows() -> Iterator[pa.RecordBatch]:
        yield batch(ORDERS, [(901, 0, "x")])
        raise Killed

    with pytest.raises(Killed):
        lake.commit(run(2), ORDERS, LAYOUT, base, keys(ORDERS, [1]), rows())
    assert lake.find(run(2), TABLE) is None
    assert parquet_files(tmp_path) == before
    assert rows_of(lake, base, ORDERS) == model(FIRST)


def test_a_death_between_files_and_commit(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are there and nothing names them; the next run is not disturbed by them."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("pyiceberg.catalog.sql.SqlCatalog.commit_table", die)
        with pytest.raises(Killed):
            lake.commit(run(2), ORDERS, LAYOUT, base, None, [batch(ORDERS, [(901, 0, "x")])])
    assert lake.find(run(2), TABLE) is None
    pin = lake.commit(run(3), ORDERS, LAYOUT, base, None, [batch(ORDERS, [(902, 0, "y")])])
    assert rows_of(lake, pin, ORDERS) == model([*FIRST, (902, 0, "y")])


def test_a_lost_answer_is_found(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit arrived and its answer did not: the files stay, and `find` says so."""
    real = SqlCatalog.commit_table

    def lost(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        raise OSError("connection reset")

    with monkeypatch.context() as patched:
        patched.setattr(SqlCatalog, "commit_table", lost)
        with pytest.raises(LakeFailed, match="connection reset"):
            lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    pin = lake.find(run(1), TABLE)
    assert pin is not None
    assert rows_of(lake, pin, ORDERS) == model(FIRST)
