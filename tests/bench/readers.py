"""Processes that ask the port the same query again and again: the analysts beside a measurement."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event

import psycopg

QUERIES = (
    "SELECT tid, count(*), sum(abalance) FROM pgbench_accounts a"
    " JOIN pgbench_tellers t USING (bid) GROUP BY tid",
    "SELECT bid, sum(abalance), min(abalance), max(abalance) FROM pgbench_accounts GROUP BY bid",
)
_STOP_SECONDS = 20


class Readers:
    """How many answers the running readers have had."""

    def __init__(self, counters: Sequence[Synchronized[int]]) -> None:
        """One counter for each reader."""
        self._counters = counters

    @property
    def answers(self) -> int:
        """Of all of them."""
        return sum(counter.value for counter in self._counters)


@contextmanager
def reading(dsn: str, queries: Sequence[str]) -> Iterator[Readers]:
    """A reader for each query, until the end. Raises AssertionError where one had no answer."""
    context = multiprocessing.get_context("spawn")
    counters = [context.Value("i", 0) for _ in queries]
    stop = context.Event()
    processes = [
        context.Process(target=_loop, args=(dsn, sql, counter, stop), daemon=True)
        for sql, counter in zip(queries, counters, strict=True)
    ]
    for process in processes:
        process.start()
    try:
        yield Readers(counters)
    finally:
        stop.set()
        for process in processes:
            process.join(_STOP_SECONDS)
    assert all(counter.value for counter in counters), "a reader had no answer"


def _loop(dsn: str, sql: str, counter: Synchronized[int], stop: Event) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET htapkit.freshness = 'any'")
        while not stop.is_set():
            connection.execute(sql).fetchall()
            counter.value += 1
