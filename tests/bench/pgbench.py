"""Pgbench's TPC-B-like script as a load at a fixed rate."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from htapkit.testing.postgres import PostgresServer

KEPT_MIN = 0.95
"""Of the rate that is asked for; a load that is behind says nothing of its rate."""


class RateNotKept(Exception):
    """The load did not run as it was asked for."""


def make_tables(server: PostgresServer, scale: int) -> None:
    """Its tables, each with a key."""
    command = [str(server.tool("pgbench")), "-i", "-q", "-s", str(scale), server.dsn()]
    subprocess.run(command, check=True, capture_output=True)
    with server.connect() as admin:
        admin.execute("ALTER TABLE pgbench_history ADD COLUMN hid bigserial PRIMARY KEY")


@contextmanager
def load(server: PostgresServer, rate: int, seconds: int, *more: str) -> Iterator[None]:
    """It runs meanwhile, and to its end. Raises RateNotKept."""
    command = [str(server.tool("pgbench")), "-n", "-c", "4", "-j", "1", "-M", "prepared"]
    command += ["-R", str(rate), "-T", str(seconds), *more, server.dsn()]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield
        if running.poll() is not None:
            raise RateNotKept(f"pgbench ended after {seconds} s, before what it ran beside")
        said, _ = running.communicate()
    finally:
        running.kill()
        running.wait()
    kept = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    if kept is None or float(kept[1]) < KEPT_MIN * rate:
        raise RateNotKept(f"pgbench at {rate} transactions/s: {said[-300:]}")
    print(f"   load: {float(kept[1]):.0f} of {rate} transactions/s")
