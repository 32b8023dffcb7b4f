"""How long clients waited: figures that were measured, of the time that is asked for."""

from __future__ import annotations

import random

from htapkit.demo.latency import KEPT_MAX, Latencies, Waited, waited


def test_percentiles_are_by_nearest_rank() -> None:
    """Of 1 to 200 ms, in any order, half are at most 100 and 99 of 100 at most 198."""
    ms = [float(n) for n in range(1, 201)]
    random.Random(1).shuffle(ms)
    assert waited(ms) == Waited(200, 100.0, 198.0)
    assert waited([7.5]) == Waited(1, 7.5, 7.5)
    assert waited([]) is None


def test_kinds_and_times_are_apart() -> None:
    """A restart forgets what was; the last ones alone can be asked for; memory is bounded."""
    latencies = Latencies()
    latencies.add({"read": [1.0, 2.0], "write": [9.0]})
    latencies.add({"read": [4.0]})
    assert latencies.of("read") == Waited(3, 2.0, 4.0)
    assert latencies.of("read", last=1) == Waited(1, 4.0, 4.0)
    assert latencies.of("write") == Waited(1, 9.0, 9.0)
    latencies.restart()
    assert latencies.of("read") is None
    latencies.add({"read": [5.0] * (KEPT_MAX + 1)})
    found = latencies.of("read")
    assert found is not None
    assert found.operations == KEPT_MAX
