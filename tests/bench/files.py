"""Ten thousand files in a thousand partitions: how long it takes to know which of them are read."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Figure
from tests.unit.htapkit.lake.building import DAY, LAYOUT, ORDERS, TABLE, batch, lake_in
from tests.unit.htapkit.lake.building import run as a_run

RUNS, DAYS = 10, 1_000
REPEATS = 20
GOALS = {"cold": 1_000, "warm": 100}  # milliseconds


def run() -> list[Figure]:
    """Of all files and of one day, for the first time in a process and later."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lake, pin = lake_in(folder), None
        for number in range(RUNS):
            ids = range(number * DAYS, (number + 1) * DAYS)
            rows = [(each, each % DAYS * DAY, "x") for each in ids]
            run_ = a_run(number, (DAYS + 1) * DAY)
            pin = lake.commit(run_, ORDERS, LAYOUT, pin, None, [batch(ORDERS, rows)])
        assert pin is not None
        lake.close()
        figures = []
        for what, bounds, expected in (
            ("all of them", (None, None), RUNS * DAYS),
            ("one day's", (500 * DAY, 501 * DAY), RUNS),
        ):
            opened = lake_in(folder)
            times = []
            for _ in range(REPEATS):
                begun = time.perf_counter()
                found = opened.files(TABLE, pin, *bounds)
                times.append(1000 * (time.perf_counter() - begun))
                assert len(found.paths) == expected
            opened.close()
            figures += [
                _figure(f"{what}, cold", times[0], GOALS["cold"]),
                _figure(f"{what}, warm", statistics.median(times[1:]), GOALS["warm"]),
            ]
    return figures


def _figure(what: str, took: float, goal: float) -> Figure:
    return Figure(
        f"planning over {RUNS * DAYS:,} files in {DAYS:,} partitions: {what}",
        f"{took:.1f} ms",
        "-",
        None,
        f"<= {goal:,} ms",
        "-",
        took <= goal,
        above_floor=True,
    )
