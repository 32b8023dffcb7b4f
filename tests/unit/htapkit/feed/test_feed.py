"""The feed's thread: when it ends, and when the source keeps nothing for it any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from htapkit.cli.feeds import Feeds
from htapkit.errors import PositionLost, SinkFailed, SourceUnavailable
from htapkit.feed import Feed, FeedOptions
from htapkit.feed import feed as feed_module
from htapkit.metrics import Metrics
from htapkit.model import Finding, Position, TableSchema
from htapkit.sinks import Progress
from htapkit.testing.memory import MemorySource, MemoryStream, Server
from htapkit.testing.stack import wait_until
from tests.unit.htapkit.feed.test_round import MemorySession, MemorySink, new_server

SECONDS = 20.0


class Kept(MemorySource):
    """Keeps ten bytes for each commit that its reader has not confirmed, by a slot."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.slot = False
        self.gap = ""  # why the stream cannot go on, though the slot is there
        self.streams: list[MemoryStream] = []
        self.closed = 0

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> MemoryStream:
        if start is not None and self.gap:
            raise PositionLost(self.gap)
        self.slot = True
        stream = super().follow(start, tables)
        close = stream.close

        def counted() -> None:
            self.closed += 1
            close()

        stream.close = counted  # type: ignore[method-assign]
        self.streams.append(stream)
        return stream

    def retained_bytes(self) -> int:
        return 10 * (len(self.server.log) - self.server.confirmed) if self.slot else 0

    def spilled_bytes(self) -> int:
        return 0

    def let_go(self) -> None:
        if self.closed < len(self.streams):
            raise SourceUnavailable("the slot is in use")
        self.slot = False

    def detach(self) -> None:
        self.let_go()


class Sink:
    """A sinks.Sink in memory."""

    def __init__(self) -> None:
        self.kept = MemorySink()

    def check(self) -> Sequence[Finding]:
        return ()

    def open(self) -> MemorySession:
        return MemorySession(self.kept)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_RETAINED_SECONDS", 0.0)


@pytest.fixture
def made() -> Iterator[Callable[[Kept, Sink], Feed]]:
    """Feeds that are stopped in the end."""
    feeds: list[Feed] = []

    def make(source: Kept, sink: Sink) -> Feed:
        options = FeedOptions(
            watch_interval_seconds=0.1,
            slot_lag_bytes_max=15,
            slot_lag_seconds_max=0.0,
            copy_rows=1,
        )
        feeds.append(Feed(("events", "mem"), source, sink, Metrics(), options))
        return feeds[-1]

    yield make
    for feed in feeds:
        feed.stop()


def watched(feed: Feed, done: Callable[[], bool]) -> None:
    """As the housekeeping does, until it is done."""

    def look() -> bool:
        feed.measure()
        return done()

    wait_until(look, SECONDS)


def test_the_log_is_let_go_while_a_table_is_copied(made: Callable[[Kept, Sink], Feed]) -> None:
    """A copy may take hours; the source's disk does not wait for its end."""
    server, sink, going = new_server(), Sink(), threading.Event()
    source, copying = Kept(server), threading.Event()

    def slowly() -> None:
        copying.set()
        assert going.wait(SECONDS)

    source.during_copy = slowly
    feed = made(source, sink)
    feed.start()
    assert copying.wait(SECONDS)
    for _ in range(3):
        server.commit()
    watched(feed, lambda: bool(feed._letting_go))
    going.set()
    watched(feed, lambda: feed.state == "detached")
    assert not source.slot
    assert [op for _, op, _, _ in sink.kept.events] == [], "the copy went on to its end"


def test_a_detached_feed_lets_the_log_go(made: Callable[[Kept, Sink], Feed]) -> None:
    """Its position may be lost while its slot is there: where a publication was dropped."""
    server, sink = new_server(), Sink()
    source = Kept(server)
    feed = made(source, sink)
    feed.start()
    following = [("mem.public.first", "following"), ("mem.public.second", "following")]
    wait_until(lambda: [(t.table, t.state) for t in feed.report().tables] == following, SECONDS)
    feed.stop()
    source.gap = "a publication was dropped"
    feed = made(source, sink)
    feed.start()
    watched(feed, lambda: feed.state == "detached")
    assert source.slot
    for _ in range(3):
        server.commit()
    watched(feed, lambda: not source.slot)
    assert feed.state == "detached"
    assert source.gap in feed.why


class SlowSink(Sink):
    """Its brokers do not answer before all is asked to end."""

    def __init__(self, all_end: Callable[[], bool]) -> None:
        super().__init__()
        self.asked = threading.Event()
        self._all_end = all_end

    def open(self) -> MemorySession:
        self.asked.set()
        wait_until(self._all_end, 3.0)
        raise SinkFailed("no broker answers")


def test_feeds_are_stopped_side_by_side(made: Callable[[Kept, Sink], Feed]) -> None:
    """One after the other, they could take longer than whoever stops us waits."""
    feeds = Feeds.__new__(Feeds)

    def all_end() -> bool:
        return all(feed._stopping.is_set() for feed in feeds.by_name.values())

    sinks = [SlowSink(all_end) for _ in range(3)]
    feeds.by_name = {str(n): made(Kept(new_server()), sink) for n, sink in enumerate(sinks)}
    feeds.start()
    assert all(sink.asked.wait(SECONDS) for sink in sinks)
    begun = time.monotonic()
    feeds.stop()
    assert time.monotonic() - begun < 1.5
    assert {feed.state for feed in feeds.by_name.values()} == {"stopped"}


class Waiting(MemorySession):
    """Its brokers do not answer a commit for long."""

    def commit(self, progress: Progress) -> None:
        super().commit(progress)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(2.0)


class WaitingSink(Sink):
    """Of such sessions."""

    def open(self) -> MemorySession:
        return Waiting(self.kept)


def test_it_is_detached_while_the_sink_does_not_answer(
    made: Callable[[Kept, Sink], Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is when it is wanted: the slot goes, whatever the feed's thread waits for."""
    monkeypatch.setattr(feed_module, "_JOIN_SECONDS", 0.1)
    source, sink = Kept(new_server()), WaitingSink()
    feed = made(source, sink)
    feed.start()
    wait_until(lambda: sink.kept.progress.position is not None, SECONDS)
    feed.detach()
    assert not source.slot
    assert sink.kept.progress.position is None


class Deaf(MemorySession):
    """Takes everything, and commits nothing."""

    def commit(self, progress: Progress) -> None:
        raise SinkFailed(f"not {progress.position}")


class DeafSink(Sink):
    """Counts who asks."""

    opened = 0

    def open(self) -> MemorySession:
        self.opened += 1
        return Deaf(self.kept)


def test_what_cannot_be_sent_is_tried_less_and_less(
    made: Callable[[Kept, Sink], Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try opens a stream at the source, and reads all positions again."""
    monkeypatch.setattr(feed_module, "_BACKOFF_SECONDS", (0.01, 0.01, 60.0))
    sink = DeafSink()
    feed = made(Kept(new_server()), sink)
    feed.start()
    wait_until(lambda: sink.opened == 3 and feed.state == "unavailable", SECONDS)
    assert not feed._stopping.wait(0.5)
    assert sink.opened == 3
