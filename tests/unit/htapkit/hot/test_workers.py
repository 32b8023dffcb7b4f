"""DuckDB's threads: all cores while nothing is applied, few otherwise, always behind the others."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from htapkit.hot import HotLimits
from htapkit.hot.core import Core
from htapkit.hot.database import Database
from htapkit.hot.workers import Workers
from htapkit.testing.stack import wait_until

CORES = 6


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def core(path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[Core]:
    monkeypatch.setattr(os, "cpu_count", lambda: CORES)
    yield from opened(path, HotLimits(), now, monkeypatch)


def opened(
    path: Path, limits: HotLimits, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Core]:
    monkeypatch.setattr(Core, "seconds", lambda _: now[0])
    database = Database(path, limits)
    yield Core(database, lambda: datetime.now(UTC), None)
    database.close()


def threads(core: Core) -> int:
    cursor = core.database.cursor()
    try:
        return int(cursor.execute("SELECT current_setting('threads')").fetchall()[0][0])
    finally:
        core.database.release(cursor)


def tasks() -> set[Path]:
    """The threads of this process."""
    return set(Path("/proc/self/task").iterdir())


def niceness(task: Path) -> int | None:
    """None where the thread is gone."""
    try:
        return os.getpriority(os.PRIO_PROCESS, int(task.name))
    except ProcessLookupError:
        return None


def test_they_follow_what_the_applier_does(core: Core, now: list[float]) -> None:
    workers = Workers(core)
    assert threads(core) == CORES // 2
    looks = [(1.0, 0.0, CORES), (2.0, 0.5, CORES // 2), (3.0, 0.52, CORES), (4.0, 0.6, CORES // 2)]
    for seconds, applied, expected in looks:
        now[0] = seconds
        workers.adjust(applied)
        assert threads(core) == expected


def test_a_large_transaction_counts_before_it_ends(
    core: Core, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(core)
    monkeypatch.setattr(Core, "large_open", property(lambda _: True))
    now[0] = 1.0
    workers.adjust(0.0)
    assert threads(core) == CORES // 2


def test_a_number_holds_always(
    path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for core in opened(path, HotLimits(threads=2), now, monkeypatch):
        now[0] = 1.0
        Workers(core).adjust(0.0)
        assert threads(core) == 2


def test_a_file_that_was_opened_again_is_told_again(core: Core, now: list[float]) -> None:
    workers = Workers(core)
    now[0] = 1.0
    workers.adjust(0.0)
    core.database.close()
    core.database.open()
    assert threads(core) == CORES // 2
    now[0] = 2.0
    workers.adjust(0.0)
    assert threads(core) == CORES


def test_new_threads_stand_behind_and_the_caller_does_not(core: Core, now: list[float]) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    before = tasks()
    workers = Workers(core)
    now[0] = 1.0
    workers.adjust(0.0)
    found = [each for each in map(niceness, tasks() - before) if each is not None]
    assert len(found) >= CORES - CORES // 2
    assert all(each >= 10 for each in found)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == ours


def test_nothing_else_can_be_set(core: Core) -> None:
    cursor = core.database.cursor()
    for setting in ("memory_limit = '1GB'", "allowed_configs = ['temp_directory']"):
        with pytest.raises(duckdb.Error, match="locked"):
            cursor.execute(f"SET {setting}")
    core.database.release(cursor)


def test_a_query_that_runs_does_not_hold_it_up(core: Core, now: list[float]) -> None:
    """A worker gives its part back: the number changes long before the query ends."""
    workers = Workers(core)
    now[0] = 1.0
    workers.adjust(0.0)
    cursor = core.database.cursor()
    cursor.execute("CREATE TABLE big AS SELECT range AS id FROM range(1000000)").fetchall()
    ended = threading.Event()

    def run() -> None:
        with pytest.raises(duckdb.InterruptException):
            cursor.execute(
                "SELECT count(*) FROM big a, range(5000) b WHERE hash(a.id, b.range) % 7 = 0"
            ).fetchall()
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        idle = time.process_time()
        wait_until(lambda: time.process_time() > idle + 0.1, 30, lambda: "a running query")
        now[0] = 2.0
        workers.adjust(1.0)
        assert threads(core) == CORES // 2
        assert not ended.is_set()
    finally:
        while thread.is_alive():
            cursor.interrupt()
            thread.join(0.05)
        core.database.release(cursor)
