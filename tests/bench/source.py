"""What the source feels.

P99 of its own transactions without us, and while we copy, follow and query.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import Stack
from tests.bench import pgbench
from tests.bench.figures import Figure, at_most
from tests.bench.readers import QUERIES, reading

SECONDS = 15
RATE = 300
ROUNDS = 2


def run() -> list[Figure]:
    """Pgbench's TPC-B-like script at a fixed rate; latency log, p99.

    On all cores together, and where there are two of them, as if we were on another machine: the
    source, with all that it does for us, and pgbench have one, we and who asks us the other.
    """
    cores = sorted(os.sched_getaffinity(0))
    what = f"source p99 at {RATE} tps"
    doing = (f"{what} while we copy, follow and query", f"{what} while we follow and query")
    figures = _measure(*doing, None, None)
    if len(cores) > 1:
        what = f"{what}, it and we on one core each"
        figures += _measure(what, f"{what}, copied before", {cores[0]}, {cores[1]})
    return figures


def _measure(
    with_copy: str, copied: str, theirs: set[int] | None, ours: set[int] | None
) -> list[Figure]:
    alone: list[float] = []
    copying: list[float] = []
    following: list[float] = []
    with (
        _on(theirs),
        PostgresServer(18, settings={"shared_buffers": "256MB", "max_wal_size": "4GB"}) as server,
    ):
        pgbench.make_tables(server, 10)
        for _ in range(ROUNDS):
            alone += _latencies(server)
            with (
                _on(ours),
                tempfile.TemporaryDirectory() as folder,
                Stack(
                    Path(folder), {"shop": {"dsn": server.dsn(), "tables": ["public.*"]}}
                ) as stack,
            ):
                with reading(stack.dsn(), QUERIES[1:]), _on(theirs):
                    copying += _latencies(server)
                    stack.wait_ready()
                    following += _latencies(server)
                with stack.client() as client:
                    client.detach("shop")
    return [
        at_most(what, _p99(found), _p99(alone), 1.2, 10.0, "ms")
        for what, found in ((with_copy, copying), (copied, following))
    ]


def _p99(milliseconds: list[float]) -> float:
    return sorted(milliseconds)[int(len(milliseconds) * 0.99)]


@contextmanager
def _on(cores: set[int] | None) -> Iterator[None]:
    """What is started meanwhile runs on these cores; None: on all."""
    before = os.sched_getaffinity(0)
    if cores is not None:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _latencies(server: PostgresServer) -> list[float]:
    """Milliseconds of every transaction."""
    with tempfile.TemporaryDirectory() as folder:
        with pgbench.load(server, RATE, SECONDS, "-l", "--log-prefix", f"{folder}/log"):
            pass  # until it ends
        return [
            int(line.split()[2]) / 1000
            for path in Path(folder).glob("log*")
            for line in path.read_text().splitlines()
        ]
