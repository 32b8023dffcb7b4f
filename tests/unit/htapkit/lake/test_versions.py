"""Pruning: exactly the files that can have rows between two times, whatever the cache holds."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow.parquet as pq

from htapkit.lake.recent import Recent
from htapkit.model import Layout
from tests.unit.htapkit.lake.building import DAY, ORDERS, TABLE, batch, lake_in, run


def test_random_bounds(tmp_path: Path) -> None:
    """Against the times that really are in each file."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with lake_in(tmp_path) as lake:
        pin = None
        for number in range(12):
            partition = chance.choice(["hour", "day", "month"])
            middle = chance.randrange(-40 * DAY, 40 * DAY)
            rows = [(number * 100 + n, middle + chance.randrange(-DAY, DAY), "") for n in range(20)]
            pin = lake.commit(
                run(number), ORDERS, Layout("at", partition), pin, None, [batch(ORDERS, rows)]
            )
        assert pin is not None
        everything = lake.files(TABLE, pin, None, None)
        assert everything.rows == pin.rows == 240
        spans = {}
        for path in everything.paths:
            times = pq.read_table(path).column("at").cast("int64").to_pylist()
            spans[path] = (min(times), max(times))
        moments = [edge + d for span in spans.values() for edge in span for d in (-1, 0, 1)]
        for _ in range(300):
            lower, upper = (chance.choice([None, *moments]) for _ in range(2))
            expected = {
                path
                for path, (first, last) in spans.items()
                if (lower is None or last >= lower) and (upper is None or first < upper)
            }
            assert set(lake.files(TABLE, pin, lower, upper).paths) == expected


def test_many_commits_make_few_manifests(tmp_path: Path) -> None:
    """Planning opens each manifest: small ones are joined, and no file is lost over it."""
    with lake_in(tmp_path) as lake:
        pin = None
        for number in range(60):
            rows = [(number, number * DAY, "")]
            pin = lake.commit(run(number), ORDERS, Layout("at"), pin, None, [batch(ORDERS, rows)])
        assert pin is not None
        assert (pin.rows, len(lake.files(TABLE, pin, None, None).paths)) == (60, 60)
        snapshot = lake._version(TABLE, pin).snapshot
        assert len(snapshot.manifests(lake._version(TABLE, pin).io)) < 30


def test_recent_forgets_the_least_recently_used() -> None:
    """By the sum of sizes; what is too large is not kept at all."""
    recent: Recent[str] = Recent(10)
    recent.put("a", "A", 4)
    recent.put("b", "B", 4)
    assert recent.get("a") == "A"
    recent.put("c", "C", 4)
    assert [recent.get(key) for key in "abc"] == ["A", None, "C"]
    recent.put("d", "D", 11)
    assert recent.get("d") is None
    recent.put("a", "A2", 9)
    assert [recent.get(key) for key in "ac"] == ["A2", None]
    assert len(recent) == 1
