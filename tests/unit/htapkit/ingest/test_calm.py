"""How long changes may be gathered, and who ends that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from htapkit.hot import HotStore
from htapkit.ingest.calm import READ_SECONDS, UNREAD_SECONDS, Calm
from htapkit.ingest.follower import Follower
from htapkit.metrics import Metrics
from htapkit.model import Column, Position, SqlType, TableId, TableSchema
from htapkit.testing.memory import MemorySource, MemoryStream, Server

ITEMS = TableId("mem", "public", "items")
SCHEMA = TableSchema(ITEMS, (Column("id", SqlType("int4", 23), 1),), ("id",))


class Clock:
    """Stands still; `read_at` is by it."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.read_at = float("-inf")

    def now(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def calm(clock: Clock) -> Calm:
    return Calm(lambda: clock.read_at, clock.now)


def test_nobody_reads_nobody_waits(calm: Calm) -> None:
    assert calm.gather_seconds() == UNREAD_SECONDS


def test_reads_shorten_it_for_some_seconds(calm: Calm, clock: Clock) -> None:
    clock.read_at = clock.seconds
    assert calm.gather_seconds() == READ_SECONDS
    clock.seconds += 4.9
    assert calm.gather_seconds() == READ_SECONDS
    clock.seconds += 0.2
    assert calm.gather_seconds() == UNREAD_SECONDS


def test_who_waits_ends_it_until_they_have_stopped_saying_so(calm: Calm, clock: Clock) -> None:
    clock.read_at = clock.seconds
    calm.waited()
    assert calm.gather_seconds() == 0.0
    clock.seconds += 0.09
    assert calm.gather_seconds() == 0.0
    clock.seconds += 0.02
    assert calm.gather_seconds() == READ_SECONDS


class GatheringSource(MemorySource):
    """Its streams can gather; it notes what they are asked for."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.said: list[object] = []

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> MemoryStream:
        """With such a stream."""
        stream = super().follow(start, tables)
        ask = stream.nudge

        def nudge() -> None:
            self.said.append("nudged")
            ask()

        stream.nudge = nudge  # type: ignore[method-assign]
        stream.gather = self.said.append  # type: ignore[attr-defined]
        return stream


def test_a_follower_gathers_and_hurries_for_who_waits_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("htapkit.ingest.calm._WAITED_LATELY_SECONDS", 3600.0)
    source = GatheringSource(Server("mem", {ITEMS: SCHEMA}))
    said: list[list[object]] = []
    with HotStore(tmp_path / "hot.duckdb") as store:
        follower: Follower

        def applied(*_: object) -> None:
            """On the follower's own thread: the first batch came of the nudge at the beginning."""
            said.append(source.said.copy())
            source.said.clear()
            if len(said) == 1:
                follower.ask()
            elif len(said) == 2:
                follower.nudge()
            else:
                follower.stop()

        follower = Follower(
            "mem", source, store, Metrics(), prepare=lambda: None, changed=lambda: None
        )
        store.on_applied(applied)
        follower.run()
    assert said == [["nudged", UNREAD_SECONDS], ["nudged", UNREAD_SECONDS], [0.0, "nudged", 0.0]]
