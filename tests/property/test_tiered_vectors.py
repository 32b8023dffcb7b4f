"""Vectors go to the lake and come back bit by bit, and the nearest are the same on both sides."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import FloatType, ListType

from htapkit.hot import HotStore
from htapkit.lake import Lake, LakeSettings, reading
from htapkit.metrics import Metrics
from htapkit.model import ChangeBatch, Layout, Position, TableId
from htapkit.plan import LocalQuery, SessionView, plan
from htapkit.query import run
from htapkit.tier import Rule, Target, Tierer, Upkeep
from htapkit_cassandra import cql
from htapkit_cassandra.catalog import ColumnRow, table_schema
from htapkit_cassandra.cells import Collector
from htapkit_cassandra.layout import Layout as Read
from htapkit_cassandra.mutations import Cell, RowWrite
from htapkit_cassandra.places import Places
from tests.property.tiered_cells import covers

_SIZE, _DAYS, _ROWS = 3, 6, 120
_DAY_MS = 86_400_000
_COLUMNS = (
    ColumnRow("pk", "partition_key", 0, "none", "int"),
    ColumnRow("at", "clustering", 0, "asc", "timestamp"),
    ColumnRow("e", "regular", -1, "none", f"vector<float, {_SIZE}>"),
)
_TABLE = TableId("events", "demo", "items")
_ODD = (math.nan, -0.0, 0.0, math.inf, -math.inf, 1e-45, -1.17549435e-38, 3.4028235e38, 0.1)
_ANSWERS = (
    "SELECT pk, e <-> '[0.5, -1, 2]' AS d FROM demo.items ORDER BY d, pk LIMIT 15",
    "SELECT pk, e <=> '[0.5, -1, 2]' AS d FROM demo.items ORDER BY d, pk LIMIT 15",
    "SELECT pk, e <#> '[0.5, -1, 2]' AS d FROM demo.items WHERE pk % 3 > 0 ORDER BY d, pk LIMIT 15",
    "SELECT count(*), count(e) FROM demo.items",
)


class _Items:
    """A store and a lake with one table of vectors."""

    def __init__(self, folder: Path) -> None:
        types = {c.name: cql.parse(c.type, {}) for c in _COLUMNS}
        self.schema = table_schema(_TABLE, _COLUMNS, {})
        (self.at,) = (column for column in self.schema.columns if column.name == "at")
        self._collector = Collector(Read(self.schema, types, Places((("timestamp", False),))))
        self._number = 0
        self.store = HotStore(folder / "hot.duckdb", warehouse=str(folder))
        self.lake = Lake(LakeSettings.local(folder))
        self.store.use_lake(self.lake)
        self.tierer = Tierer(self.store, self.lake, Metrics(), 10_000)
        self.store.add_table(self.schema, "f")
        self.apply([])
        self.store.start_copy(self.schema, "f", Position("1"))
        self.store.finish_copy(_TABLE, covers, 5)

    def apply(self, rows: Sequence[tuple[int, list[float] | None, int]]) -> None:
        """(key, vector, time) of each: one batch."""
        for pk, vector, time in rows:
            packed = None if vector is None else struct.pack(f">{_SIZE}f", *vector)
            at = struct.pack(">q", pk % _DAYS * _DAY_MS)
            cells = (Cell("e", time, packed),)
            self._collector.take(RowWrite("t", (struct.pack(">i", pk),), (at,), cells, (), time))
        self._number += 1
        end = Position(str(self._number))
        changes = (self._collector.changes(),) if rows else ()
        self.store.apply(ChangeBatch("events", changes, (end,), end, None), covers)

    def tier(self, days: int) -> None:
        """Move the line there."""
        rule = Rule(self.at, Layout("at", "day", ("pk", "at")), None)
        target = Target(_TABLE, rule, days * _DAY_MS * 1000)
        self.tierer.run([target], lambda *_: None)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """The answer of the copy."""
        made = plan(sql, self.store.catalog, SessionView("events", alone=True))
        assert isinstance(made, LocalQuery), made
        with run(made, self.store, files=self.lake.files) as read:
            return [tuple(row.values()) for b in read.batches() for row in b.to_pylist()]

    def answers(self) -> str:
        """All of them, in which NaN is NaN."""
        return repr([self.ask(sql) for sql in _ANSWERS])

    def bits(self) -> dict[int, bytes | None]:
        """Each vector's, by key, as the export of a run gives them."""
        export = self.store.begin_run("look", {_TABLE: 10**15}, {_TABLE: self.at.ordinal})
        with export:
            found = _bits(pa.Table.from_batches(export.rows(_TABLE), export.schema(_TABLE).arrow))
        self.store.drop_run("look")
        return found


def _bits(rows: pa.Table) -> dict[int, bytes | None]:
    vectors = rows["e"].cast(pa.list_(pa.float32(), _SIZE)).combine_chunks()
    return {
        pk: vectors[n].values.to_numpy().tobytes() if vectors[n].is_valid else None
        for n, pk in enumerate(rows["pk"].to_pylist())
    }


@pytest.fixture
def items(tmp_path: Path) -> Iterator[_Items]:
    """None yet."""
    made = _Items(tmp_path)
    yield made
    made.store.close()
    made.lake.close()


def _random(seed: int) -> list[tuple[int, list[float] | None, int]]:
    rolled = random.Random(seed)
    found: list[tuple[int, list[float] | None, int]] = []
    for pk in range(_ROWS):
        vector = [rolled.choice([*_ODD, rolled.gauss(0, 1)]) for _ in range(_SIZE)]
        found.append((pk, None if rolled.random() < 0.1 else vector, 10))
    return found


@pytest.mark.parametrize("whole", [False, True])
def test_the_nearest_are_those_of_the_hot_store(
    items: _Items, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """With some of the rows in the lake, and with all; also of files that only come whole."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rows = _random(seed)
    items.apply(rows)
    wanted, bits = items.answers(), items.bits()
    assert len(bits) == _ROWS
    if whole:
        monkeypatch.setattr(reading, "is_local", lambda _: False)
    for days in (2, _DAYS):
        items.tier(days)
        assert items.answers() == wanted
    assert items.store.catalog.tables[_TABLE].rows == 0, "all of it is in the lake"
    items.apply(rows)
    assert items.store.patches(_TABLE) == (0, 0), "nothing of it is another one"
    upkeep = Upkeep(items.store, items.lake, 0.0)
    items.tier(_DAYS)
    upkeep.compact(upkeep.tables(), lambda *_: None)
    assert items.answers() == wanted
    # What comes back has the bits that went.
    items.apply([(pk, None, 9) for pk in range(_ROWS)])
    assert items.answers() == wanted
    items.apply([(pk, [1.0, 2.0, 3.0], 11) for pk in range(0, _ROWS, 2)])
    items.apply([(pk, vector, 12) for pk, vector, _ in rows[::2]])
    assert items.store.patches(_TABLE) == (_ROWS // 2, _ROWS // 2)
    assert items.answers() == wanted
    assert items.bits() == {pk: bits[pk] for pk in range(0, _ROWS, 2)}


def test_other_engines_see_a_list_of_floats(items: _Items) -> None:
    """With a field id of its own for elements."""
    rows = _random(7)
    items.apply(rows)
    bits = items.bits()
    items.tier(_DAYS)
    catalog = items.lake._opened()
    table = catalog.load_table(items.lake.identifier(_TABLE))
    type_ = table.schema().find_field("e").field_type
    assert isinstance(type_, ListType)
    assert type_.element_type == FloatType()
    ids = [field.field_id for field in table.schema().fields]
    assert type_.element_id not in ids
    assert len(set(ids)) == len(ids)
    assert _bits(table.scan().to_arrow()) == bits
