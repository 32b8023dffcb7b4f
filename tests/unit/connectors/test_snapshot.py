"""The parts of a snapshot that need no server."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from htapkit_postgres.bulk import uri
from htapkit_postgres.snapshot import Throttle


def test_throttle_spreads_rows_over_time() -> None:
    now, waited = [0.0], []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds

    throttle = Throttle(1000, clock=lambda: now[0], wait=wait)
    for rows in (500, 1000, 500):
        throttle.spend(rows)
    assert waited == [0.5, 1.0, 0.5]
    now[0] += 60  # time in which nothing was read is not saved up
    throttle.spend(1000)
    assert waited[-1] == 1.0


def test_throttle_is_shared() -> None:
    """Readers that come at once wait one behind the other."""
    waited: list[float] = []
    throttle = Throttle(1000, clock=lambda: 0.0, wait=waited.append)
    for _ in range(3):
        throttle.spend(1000)
    assert waited == [1.0, 2.0, 3.0]


def test_no_throttle() -> None:
    Throttle(None, wait=lambda _: pytest.fail("waited")).spend(10**9)


def test_uri() -> None:
    """Whatever is in a connection string survives, and a password is not read as something else."""
    given = r"host=/var/run user='a b' password='p@:/?&=% \'x' options='-c a=b\\ c' port=5433"
    assert conninfo_to_dict(uri(given)) == conninfo_to_dict(given)
    assert conninfo_to_dict(given)["options"] == "-c a=b\\ c"
