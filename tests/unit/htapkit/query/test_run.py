"""Planned statements over both arms: real plans, a real hot store, Parquet files as the lake."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htapkit.errors import CatalogChanged, LakeFailed, NotRoutable
from htapkit.hot import HotLimits, HotStore
from htapkit.model import LakeColumn, LakeFiles, Pin, Route, SqlType, TableId, TableSchema
from htapkit.plan import Cut, LocalQuery, SessionView, plan
from htapkit.query import run
from tests.unit.htapkit.hot.building import (
    INT8,
    TEXT,
    Rows,
    batch_of,
    covers,
    position,
    record_batch,
    schema_of,
)

SESSION = SessionView("shop")
AT = SqlType("timestamp", 1114)
VISITS = schema_of("visits", {"id": INT8, "at": AT, "page": TEXT})
START = datetime(2024, 1, 1)  # noqa: DTZ001 - a timestamp
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the same
_ICEBERG = {"int8": "long", "timestamp": "timestamp", "text": "string"}

Row = tuple[Any, ...]


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


@dataclass
class FakeLake:
    """A version is a file for each day; pruned by day, as a lake with partitions does."""

    folder: Path
    versions: dict[Pin, dict[int, Path]] = field(default_factory=dict)
    asked: list[tuple[int | None, int | None]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    def write(self, schema: TableSchema, rows: list[Row]) -> Pin:
        """A new version."""
        pin = Pin(f"v{len(self.versions) + 1}", len(self.versions) + 1, len(rows))
        arrow = pa.schema(
            [
                each.with_metadata({"PARQUET:field_id": str(100 + column.ordinal)})
                for each, column in zip(schema.arrow, schema.columns, strict=True)
            ]
        )
        files: dict[int, Path] = {}
        for day in sorted({(row[1] - _EPOCH).days for row in rows}):
            path = self.folder / f"{pin.metadata}-{day}.parquet"
            chosen = [row for row in rows if (row[1] - _EPOCH).days == day]
            pq.write_table(pa.Table.from_batches([record_batch(arrow, chosen)]), path)
            files[day] = path
        self.versions[pin] = files
        return pin

    def files(self, table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        """Those with a row in [lower, upper), more or less."""
        del table
        self.before()
        self.asked.append((lower, upper))
        day = 86_400_000_000
        paths = tuple(
            str(path)
            for number, path in self.versions[pin].items()
            if (lower is None or (number + 1) * day > lower)
            and (upper is None or number * day < upper)
        )
        columns = {
            c.ordinal: LakeColumn(100 + c.ordinal, _ICEBERG[c.type.name]) for c in VISITS.columns
        }
        return LakeFiles(pin, columns, paths, pin.rows)


@pytest.fixture
def lake(tmp_path: Path) -> FakeLake:
    """An empty one."""
    folder = tmp_path / "warehouse"
    folder.mkdir()
    return FakeLake(folder)


@pytest.fixture
def store(tmp_path: Path, lake: FakeLake) -> Iterator[HotStore]:
    """A hot store that may read the lake's files."""
    limits = HotLimits(memory_bytes=2**29, disk_free_bytes=0)
    with HotStore(tmp_path / "hot.duckdb", limits, warehouse=str(lake.folder)) as opened:
        yield opened


def _follow(store: HotStore, rows: list[Row]) -> None:
    store.apply(batch_of(1), covers)
    store.add_table(VISITS, "f")
    store.start_copy(VISITS, "f", position(1))
    store.load(VISITS.table, [record_batch(VISITS.arrow, rows)])
    store.finish_copy(VISITS.table, covers, timeout_seconds=0)


def _tier(store: HotStore, lake: FakeLake, below: datetime, kept: list[Row] | None = None) -> None:
    """Move all rows before `below` to the lake."""
    run_id, line = f"r{len(lake.versions)}", {VISITS.table: _micros(below)}
    with store.begin_run(run_id, line, {VISITS.table: 2}) as export:
        moved = [tuple(r.values()) for b in export.rows(VISITS.table) for r in b.to_pylist()]
    pin = lake.write(VISITS, [*(kept or []), *moved])
    store.finish_run(export.run.id, {VISITS.table: pin})


def _planned(
    store: HotStore, sql: str, types: tuple[int, ...] = (), route: str = "auto"
) -> LocalQuery:
    made = plan(sql, store.catalog, replace(SESSION, route=route), types)
    assert isinstance(made, LocalQuery), made
    return made


def _rows(store: HotStore, lake: FakeLake, query: LocalQuery, *values: object) -> list[Row]:
    with run(query, store, values, files=lake.files) as read:
        return [tuple(r.values()) for b in read.batches() for r in b.to_pylist()]


def _visits(count: int) -> list[Row]:
    """One every six hours."""
    return [(n, START + timedelta(hours=6 * n), f"p{n % 3}") for n in range(count)]


def test_both_arms_are_one_table(store: HotStore, lake: FakeLake) -> None:
    """Patches of rows in the lake count, and each row once."""
    rows = _visits(40)
    _follow(store, rows)
    _tier(store, lake, START + timedelta(days=6))
    changes = Rows(VISITS).update(3, rows[3][1], "new").delete(5).insert(99, START, "late")
    store.apply(batch_of(2, changes.changes()), covers)
    expected = {row[0]: row for row in rows} | {3: (3, rows[3][1], "new"), 99: (99, START, "late")}
    del expected[5]
    query = _planned(store, "SELECT id, at, page FROM visits ORDER BY id")
    assert query.route is Route.UNION
    assert _rows(store, lake, query) == [expected[n] for n in sorted(expected)]


def test_the_lake_is_asked_for_what_the_literals_say(store: HotStore, lake: FakeLake) -> None:
    """From the boundary on it is not asked at all; an upper bound beyond it is no bound."""
    _follow(store, _visits(40))
    _tier(store, lake, START + timedelta(days=6))
    third, fourth = START + timedelta(days=2), START + timedelta(days=3)
    sql = "SELECT count(*) FROM visits WHERE at >= '{}' AND at < '{}'"
    assert _rows(store, lake, _planned(store, sql.format(third, fourth))) == [(4,)]
    assert lake.asked == [(_micros(third), _micros(fourth))]
    assert _rows(store, lake, _planned(store, sql.format(third, "2025-01-01"))) == [(32,)]
    assert lake.asked.pop() == (_micros(third), None)
    query = _planned(store, sql.format(START + timedelta(days=6), "2025-01-01"))
    assert _rows(store, lake, query) == [(16,)]
    assert query.route is Route.HOT
    assert len(lake.asked) == 1


def test_parameters_bound_the_scan_when_it_runs(store: HotStore, lake: FakeLake) -> None:
    """One plan, each time the files that its values need."""
    _follow(store, _visits(40))
    _tier(store, lake, START + timedelta(days=6))
    query = _planned(store, "SELECT count(*) FROM visits WHERE at >= $1 AND at < $2", (1114, 1114))
    for begin, end in ((0, 1), (2, 5), (5, 8), (6, 10), (9, 7)):
        lower, upper = START + timedelta(days=begin), START + timedelta(days=end)
        lake.asked.clear()
        assert _rows(store, lake, query, lower, upper) == [(max(end - begin, 0) * 4,)]
        asked = (
            [] if begin >= min(end, 6) else [(_micros(lower), _micros(upper) if end < 6 else None)]
        )
        assert lake.asked == asked
    assert _rows(store, lake, query, None, START) == [(0,)]


def test_a_plan_holds_only_for_its_boundary(store: HotStore, lake: FakeLake) -> None:
    """A statement that left the lake out would miss rows once the boundary moves."""
    _follow(store, _visits(40))
    _tier(store, lake, START + timedelta(days=2))
    sql = f"SELECT count(*) FROM visits WHERE at >= '{START + timedelta(days=3)}'"
    query, version = _planned(store, sql), store.catalog.version
    assert not query.scans
    kept = [row for row in _visits(40) if row[1] < START + timedelta(days=2)]
    _tier(store, lake, START + timedelta(days=6), kept)
    with pytest.raises(CatalogChanged):
        run(query, store, files=lake.files)
    with pytest.raises(CatalogChanged):
        run(query, store, catalog_version=version, files=lake.files)
    again = _planned(store, sql)
    assert _rows(store, lake, again) == [(28,)]


def test_a_flip_between_looking_and_reading_is_noticed(store: HotStore, lake: FakeLake) -> None:
    """Rows of both arms and the boundary are of one snapshot, or there is no answer."""
    rows = _visits(40)
    _follow(store, rows)
    _tier(store, lake, START + timedelta(days=2))
    query, version = _planned(store, "SELECT count(*) FROM visits"), store.catalog.version
    moves = iter([timedelta(days=6)])

    def flip() -> None:
        step = next(moves, None)
        if step is not None:
            _tier(store, lake, START + step, [r for r in rows if r[1] < START + timedelta(days=2)])

    lake.before = flip
    with pytest.raises(CatalogChanged):
        run(query, store, catalog_version=version, files=lake.files)
    assert _rows(store, lake, _planned(store, "SELECT count(*) FROM visits")) == [(40,)]


def test_a_fold_does_not_need_another_plan(store: HotStore, lake: FakeLake) -> None:
    """The boundary is where it was; the pin is the one of the snapshot that is read."""
    rows = _visits(40)
    _follow(store, rows)
    below = START + timedelta(days=6)
    _tier(store, lake, below)
    query = _planned(store, "SELECT count(*), count(DISTINCT page) FROM visits")
    store.apply(batch_of(2, Rows(VISITS).update(3, rows[3][1], "new").changes()), covers)
    kept = [row for row in rows if row[1] < below and row[0] != 3]
    folds = iter([True])

    def fold() -> None:
        if next(folds, False):
            _tier(store, lake, below, kept)

    lake.before = fold
    assert _rows(store, lake, query) == [(40, 4)]
    assert store.patches(VISITS.table) == (0, 0)


def test_without_a_lake_a_scan_is_refused(store: HotStore, lake: FakeLake) -> None:
    """Never an answer of the hot rows alone."""
    _follow(store, _visits(40))
    _tier(store, lake, START + timedelta(days=6))
    query = _planned(store, "SELECT count(*) FROM visits")
    with pytest.raises(NotRoutable, match=r"shop\.public\.visits"):
        run(query, store, catalog_version=store.catalog.version)


def test_a_lake_that_fails_is_no_failure_of_the_store(store: HotStore, lake: FakeLake) -> None:
    """Nor is a file that is gone."""
    _follow(store, _visits(40))
    _tier(store, lake, START + timedelta(days=6))
    query = _planned(store, "SELECT sum(id) FROM visits")

    def broken() -> None:
        raise LakeFailed("the catalog does not answer")

    lake.before = broken
    with pytest.raises(LakeFailed, match="does not answer"):
        run(query, store, files=lake.files)
    lake.before = lambda: None
    next(iter(lake.folder.iterdir())).unlink()
    with pytest.raises(LakeFailed):
        _rows(store, lake, query)
    recent = f"SELECT count(*) FROM visits WHERE at >= '{START + timedelta(days=6)}'"
    assert _rows(store, lake, _planned(store, recent)) == [(16,)]


def test_the_past_is_the_lake_as_it_was(store: HotStore, lake: FakeLake) -> None:
    """Later changes of its rows do not count, neither as tombstones nor as folded."""
    rows = _visits(40)
    _follow(store, rows)
    below = START + timedelta(days=6)
    _tier(store, lake, below)
    patches = Rows(VISITS).update(3, rows[3][1], "new").delete(5).insert(99, START, "late")
    store.apply(batch_of(2, patches.changes()), covers)
    kept = [row for row in rows if row[1] < below and row[0] not in {3, 5}]
    _tier(store, lake, below, kept)
    store.apply(batch_of(3, Rows(VISITS).delete(7).changes()), covers)
    cuts = [Cut(each.position, each.flipped_at, each.boundaries) for each in store.cuts("shop")]
    sql = f"SELECT id, page FROM visits WHERE at < '{START + timedelta(days=2)}' ORDER BY id"
    first = [(n, f"p{n % 3}") for n in range(8)]
    later = [(n, "new" if n == 3 else page) for n, page in first if n != 5] + [(99, "late")]
    now = [row for row in later if row[0] != 7]
    for as_of, expected in ((cuts[0].at, first), (cuts[1].at, later), (None, now)):
        view = replace(SESSION, as_of=as_of.isoformat() if as_of else "")
        made = plan(sql, store.catalog, view, (), cuts)
        assert isinstance(made, LocalQuery), made
        assert _rows(store, lake, made) == expected
        assert made.as_of == (None if as_of is None else position(1 if as_of == cuts[0].at else 2))


def test_forced_routes_give_the_same_rows(store: HotStore, lake: FakeLake) -> None:
    """A union where none is needed, and the lake's own times with their patches."""
    rows = _visits(40)
    _follow(store, rows)
    _tier(store, lake, START + timedelta(days=6))
    store.apply(batch_of(2, Rows(VISITS).update(3, rows[3][1], "new").changes()), covers)
    recent = f"SELECT count(*) FROM visits WHERE at >= '{START + timedelta(days=6)}'"
    forced = _planned(store, recent, route="union")
    assert forced.scans
    assert _rows(store, lake, forced) == _rows(store, lake, _planned(store, recent)) == [(16,)]
    old = f"SELECT count(*), min(page) FROM visits WHERE at < '{START + timedelta(days=1)}'"
    assert _rows(store, lake, _planned(store, old, route="lake")) == [(4, "new")]


def test_any_history_is_one_table(store: HotStore, lake: FakeLake) -> None:
    """Random changes, runs and statements; the model is a dict. `SEED=…` repeats a run."""
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    model = {row[0]: row for row in _visits(60)}
    _follow(store, list(model.values()))
    lines = itertools.count(1)
    lake_rows: dict[int, Row] = {}
    unions = 0
    for number in range(2, 1000):
        if number > 40 and unions > 5:  # most often there are 8 to 17 by then
            break
        if number % 7 == 0:
            below = START + timedelta(days=next(lines) * 2)
            lake_rows = {key: row for key, row in model.items() if row[1] < below}
            with store.begin_run(
                f"r{number}", {VISITS.table: _micros(below)}, {VISITS.table: 2}
            ) as export:
                pass
            store.finish_run(
                export.run.id, {VISITS.table: lake.write(VISITS, list(lake_rows.values()))}
            )
        changes = Rows(VISITS)
        for key in chance.sample(sorted(model), 2):
            if chance.random() < 0.3:
                changes.delete(key)
                del model[key]
            else:
                moved = model[key][1] + timedelta(hours=chance.choice([0, 0, 30, -30]))
                model[key] = (key, moved, f"q{number}")
                changes.update(*model[key])
        late = (1000 + number, START + timedelta(hours=chance.randrange(400)), "late")
        model[late[0]] = late
        store.apply(batch_of(number, changes.insert(*late).changes()), covers)
        lower = START + timedelta(hours=chance.randrange(400))
        upper = lower + timedelta(hours=chance.randrange(200))
        query = _planned(
            store,
            f"SELECT id, page FROM visits WHERE at >= '{lower}' AND at < '{upper}' ORDER BY 1",
        )
        unions += query.route is Route.UNION
        wanted = sorted((k, page) for k, at, page in model.values() if lower <= at < upper)
        assert _rows(store, lake, query) == wanted, (number, lower, upper)
    assert unions > 5
