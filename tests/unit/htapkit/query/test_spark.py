"""What Spark is asked for, and when it is not asked: a real hot store, an engine of the test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from htapkit.errors import CatalogChanged, NotRoutable
from htapkit.hot import HotStore
from htapkit.model import ENDS, LakeColumn, LakeFiles, Pin, Route, TableId
from htapkit.plan import LocalQuery, plan
from htapkit.query import Spark, SparkRead, run_on_spark
from tests.unit.htapkit.hot.building import Rows, batch_of, covers, position
from tests.unit.htapkit.query import test_run as over
from tests.unit.htapkit.query.test_run import SESSION, START, VISITS, FakeLake, lake, store

__all__ = ["lake", "store"]
LINE = START + timedelta(days=6)
OLD = f"SELECT count(*) FROM visits WHERE at < '{START + timedelta(days=2)}'"


@dataclass
class FakeRows:
    """One batch of an int32, whatever was asked."""

    why: str = ""
    closed: bool = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """It."""
        yield pa.RecordBatch.from_arrays([pa.array([8], pa.int32())], names=["whatever"])

    def cancel(self, why: str, /) -> None:
        """Remember."""
        self.why = why

    def close(self) -> None:
        """Remember."""
        self.closed = True


@dataclass
class FakeEngine:
    """Remembers what it was asked."""

    asked: list[str] = field(default_factory=list)
    rows: FakeRows = field(default_factory=FakeRows)

    def run(self, sql: str) -> FakeRows:
        """No rows yet."""
        self.asked.append(sql)
        return self.rows

    def close(self) -> None:
        """Nothing to end."""


def _named(
    lake: FakeLake, table: TableId, pin: Pin, lower: int | None, *, ends: bool = False
) -> LakeFiles:
    """A version whose columns have names, and perhaps rows that end."""
    found = lake.files(table, pin, lower, None)
    names = {column.ordinal: column.name for column in VISITS.columns}
    held = {at: replace(column, name=names[at]) for at, column in found.columns.items()}
    if ends:
        held[ENDS.ordinal] = LakeColumn(9, "timestamptz", ENDS.name)
    return replace(found, columns=held, first_end=0 if ends else None)


def _run(
    store: HotStore, lake: FakeLake, engine: FakeEngine, sql: str = OLD, *, ends: bool = False
) -> SparkRead:
    made = plan(sql, store.catalog, replace(SESSION, route="spark", spark=True))
    assert isinstance(made, LocalQuery), made
    assert made.route is Route.SPARK
    spark = Spark(
        engine,
        lambda t, p, low, _: _named(lake, t, p, low, ends=ends),
        lambda t: (t.source, t.name),
        3600.0,
    )
    return run_on_spark(made, store, (), store.catalog.version, spark)


def _tiered(store: HotStore, lake: FakeLake) -> None:
    over._follow(store, over._visits(40))
    over._tier(store, lake, LINE)


def test_the_pinned_version_alone_is_read(store: HotStore, lake: FakeLake) -> None:
    _tiered(store, lake)
    engine = FakeEngine()
    read = _run(store, lake, engine)
    (asked,) = engine.asked
    assert "FROM `htapkit`.`shop`.`visits` VERSION AS OF 1)" in asked
    assert "CAST(`at` AS TIMESTAMP_NTZ) AS `at`" in asked
    assert read.positions == {"shop": position(1)}
    (batch,) = read.batches()
    assert batch.schema == read.schema == pa.schema([("c1", pa.int64())]), "PostgreSQL's type"
    read.close()
    assert engine.rows.closed


def test_rows_that_have_ended_are_left_out_there(store: HotStore, lake: FakeLake) -> None:
    """By the moment of the look into the hot store."""
    _tiered(store, lake)
    engine, before = FakeEngine(), datetime.now(UTC)
    _run(store, lake, engine, ends=True)
    (asked,) = engine.asked
    found = re.search(r"`htapkit_ends` > timestamp_micros\((\d+)\)\)", asked)
    assert found is not None, asked
    moment = datetime.fromtimestamp(int(found[1]) / 1_000_000, UTC)
    assert timedelta(0) <= moment - before < timedelta(minutes=10)


@pytest.mark.parametrize("change", ["update", "delete", "insert"])
def test_a_change_in_the_range_keeps_it_from_spark(
    store: HotStore, lake: FakeLake, change: str
) -> None:
    _tiered(store, lake)
    rows = Rows(VISITS)
    made = {
        "update": rows.update(3, START, "new"),
        "delete": Rows(VISITS).delete(3),
        "insert": Rows(VISITS).insert(999, START, "late"),
    }[change]
    store.apply(batch_of(2, made.changes()), covers)
    engine = FakeEngine()
    with pytest.raises(NotRoutable, match="have changed since its last tiering run"):
        _run(store, lake, engine)
    assert not engine.asked


def test_a_late_row_beside_the_range_does_not(store: HotStore, lake: FakeLake) -> None:
    _tiered(store, lake)
    late = Rows(VISITS).insert(999, LINE - timedelta(days=1), "late")
    store.apply(batch_of(2, late.changes()), covers)
    engine = FakeEngine()
    assert _run(store, lake, engine).positions == {"shop": position(2)}
    assert len(engine.asked) == 1


def test_another_catalog_needs_another_plan(store: HotStore, lake: FakeLake) -> None:
    _tiered(store, lake)
    made = plan(OLD, store.catalog, replace(SESSION, route="spark", spark=True))
    assert isinstance(made, LocalQuery)
    spark = Spark(FakeEngine(), lake.files, lambda t: (t.name,), 1.0)
    with pytest.raises(CatalogChanged):
        run_on_spark(made, store, (), store.catalog.version - 1, spark)
