"""When a mirror begins to copy, and what it leaves behind when it stops."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from htapkit import failpoints
from htapkit.errors import SourceUnavailable
from htapkit.hot import HotStore, table_query
from htapkit.ingest import Mirror, MirrorOptions
from htapkit.metrics import Metrics
from htapkit.model import (
    ChangeBatch,
    Column,
    Op,
    Position,
    SqlType,
    TableId,
    TableSchema,
    TableState,
)
from htapkit.testing.memory import MemorySnapshot, MemorySource, MemoryStream, RowEvent, Server
from htapkit.testing.stack import wait_until

ITEMS = TableId("mem", "public", "items")
SCHEMA = TableSchema(
    ITEMS, (Column("id", SqlType("int4", 23), 1), Column("v", SqlType("text", 25), 2)), ("id",)
)


class SilentSource(MemorySource):
    """Its streams are silent until `speaks`; it notes what the copy has stored at a snapshot."""

    def __init__(self, server: Server, store: HotStore) -> None:
        super().__init__(server)
        self.store = store
        self.speaks = threading.Event()
        self.asked = 0
        self.stored: list[Position | None] = []

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> MemoryStream:
        """With a stream that asks whether it may speak."""
        stream = super().follow(start, tables)
        speak = stream.next

        def ask(timeout_seconds: float) -> ChangeBatch | None:
            self.asked += 1
            return speak(timeout_seconds) if self.speaks.wait(0.02) else None

        stream.next = ask  # type: ignore[method-assign]
        return stream

    def snapshot(
        self, tables: Sequence[TableId], as_text: Mapping[TableId, frozenset[str]]
    ) -> MemorySnapshot:
        """Noted."""
        self.stored.append(self.store.stored_position("mem"))
        return super().snapshot(tables, as_text)


def test_nothing_is_copied_before_a_position_is_stored(tmp_path: Path) -> None:
    """Else a crash would keep rows, and lose from where their changes are to come again."""
    server = Server("mem", {ITEMS: SCHEMA})
    server.commit(RowEvent(ITEMS, Op.INSERT, (1, "a")))
    with HotStore(tmp_path / "hot.duckdb") as store:
        source = SilentSource(server, store)
        options = MirrorOptions(watch_interval_seconds=0.02)
        mirror = Mirror("mem", source, store, Metrics(), options)
        mirror.start()
        try:
            wait_until(lambda: source.asked > 20, 60, lambda: f"asked {source.asked} times")
            source.speaks.set()
            wait_until(
                lambda: store.catalog.tables[ITEMS].state is TableState.FOLLOWING, 60, lambda: ""
            )
        finally:
            mirror.stop()
    assert source.stored
    assert None not in source.stored


class QueuingSource(MemorySource):
    """Its streams say that they have read ahead."""

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> MemoryStream:
        """With such a stream."""
        stream = super().follow(start, tables)
        stream.queued_bytes = lambda: 12345  # type: ignore[attr-defined]
        return stream


def test_what_a_stream_has_read_ahead_is_measured(tmp_path: Path) -> None:
    source, metrics = QueuingSource(Server("mem", {ITEMS: SCHEMA})), Metrics()
    with HotStore(tmp_path / "hot.duckdb") as store:
        mirror = Mirror("mem", source, store, metrics, MirrorOptions(watch_interval_seconds=0.02))
        mirror.start()
        try:
            wait_until(lambda: mirror.report().state == "streaming", 60, lambda: "not streaming")
            mirror.measure()
        finally:
            mirror.stop()
    assert b'htapkit_queue_bytes{source="mem"} 12345.0' in metrics.text()


def test_who_waits_for_the_follower_is_told_that_it_stopped(tmp_path: Path) -> None:
    """Else whoever stops the mirror would wait for them, too: a minute, or for ever."""
    server = Server("mem", {ITEMS: SCHEMA})
    server.up = False
    told: list[str] = []

    def ask() -> None:
        try:
            mirror.pause(ITEMS)
        except SourceUnavailable as error:
            told.append(str(error))

    with HotStore(tmp_path / "hot.duckdb") as store:
        mirror = Mirror("mem", MemorySource(server), store, Metrics())
        mirror.start()
        asker = threading.Thread(target=ask, daemon=True)
        asker.start()
        mirror.stop()
        ask()
        asker.join(30)
    assert told == ["mem is no longer followed"] * 2


class Restored(MemorySource):
    """The same server with another history, which has all that was stored."""

    def identity(self, *_: object) -> str:
        """Another one."""
        return "mem, restored"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_copy_in_progress_is_made_anew_on_another_history(tmp_path: Path) -> None:
    """Its ranges were read at positions that the stream had not reached."""
    server = Server("mem", {ITEMS: SCHEMA})
    server.commit(*(RowEvent(ITEMS, Op.INSERT, (key, "a")) for key in range(8)))
    died = threading.Event()

    def die(place: str) -> None:
        if place == "copy.range":
            died.set()
            raise SystemExit

    options = MirrorOptions(watch_interval_seconds=0.02, snapshot_readers=1, range_rows=2)
    with HotStore(tmp_path / "hot.duckdb") as store:
        first = Mirror("mem", MemorySource(server), store, Metrics(), options)
        failpoints.arm(die)
        try:
            first.start()
            assert died.wait(60)
        finally:
            failpoints.arm(None)
            first.stop()
        assert store.catalog.tables[ITEMS].state is TableState.COPYING
        with server.changed:
            server.rows[ITEMS] = {key: (*key, "b") for key in server.rows[ITEMS]}
        second = Mirror("mem", Restored(server), store, Metrics(), options)
        second.start()
        try:
            follows = TableState.FOLLOWING
            wait_until(lambda: store.catalog.tables[ITEMS].state is follows, 60, lambda: "")
            with store.read(table_query(SCHEMA)) as read:
                rows = [row for batch in read.batches() for row in batch.to_pylist()]
        finally:
            second.stop()
    assert sorted(row["v"] for row in rows) == ["b"] * 8
