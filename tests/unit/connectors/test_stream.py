"""The receiver on a scripted connection."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import cast

import pytest

from htapkit.errors import SourceError, SourceUnavailable
from htapkit.testing.stack import wait_until
from htapkit_postgres.chunk import Chunk, Limits
from htapkit_postgres.connection import Connection
from htapkit_postgres.pgoutput import xlog_data
from htapkit_postgres.receiver import MARK_PREFIX, SHUTDOWN_REQUESTS, Receiver

START = 1000


def begin(end: int) -> bytes:
    return xlog_data(struct.pack(">cQqI", b"B", end - 8, 0, 1))


def commit(end: int) -> bytes:
    return xlog_data(struct.pack(">cBQQq", b"C", 0, end - 8, end, end))


def row(size: int = 10) -> bytes:
    return xlog_data(b"I" + b"x" * (size - 1))


def mark(token: str, *, transactional: bool = False, prefix: str = MARK_PREFIX) -> bytes:
    name = prefix.encode() + b"\0"
    content = token.encode()
    head = struct.pack(">cBQ", b"M", transactional, 0)
    return xlog_data(head + name + struct.pack(">I", len(content)) + content)


def keepalive(end: int, *, reply: bool = False) -> bytes:
    return struct.pack(">cQqB", b"k", end, 0, reply)


class Script:
    """A connection whose server sends exactly these messages, and then nothing (or an end)."""

    def __init__(self, messages: Sequence[bytes], *, ends: bool = False) -> None:
        self.messages = list(messages)
        self.sent: list[bytes] = []
        self.ends = ends
        self.closed = False
        self.pgconn = self
        self._read, self._write = os.pipe()
        self.socket = self._read

    def get_copy_data(self, _nowait: int) -> tuple[int, memoryview]:
        if self.messages:
            data = self.messages.pop(0)
            return len(data), memoryview(data)
        return (-1 if self.ends else 0), memoryview(b"")

    def consume_input(self) -> None:
        return

    def put_copy_data(self, data: bytes) -> None:
        self.sent.append(data)

    def flush(self) -> None:
        return

    def get_result(self) -> None:
        return None

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._read)
            os.close(self._write)


def explain(state: str, message: str) -> SourceError:
    return SourceUnavailable(f"{state} {message}")


def chunks(
    messages: Sequence[bytes], rows: int = 100, size: int = 10_000
) -> tuple[list[Chunk], Script, Receiver]:
    """All chunks that come of these messages."""
    script = Script(messages, ends=True)
    receiver = Receiver(cast("Connection", script), START, Limits(rows, size, 50), explain)
    receiver.start()
    found: list[Chunk] = []
    with suppress(SourceUnavailable):
        while chunk := receiver.get(60):
            found.append(chunk)
    return found, script, receiver


@pytest.fixture
def live() -> Iterator[list[Receiver]]:
    opened: list[Receiver] = []
    yield opened
    for receiver in opened:
        receiver.stop()


def open_live(
    live: list[Receiver], messages: Sequence[bytes], **limits: int
) -> tuple[Receiver, Script]:
    given = {"rows": 100, "bytes": 10_000, "chunks": 2, **limits}
    script = Script(messages)
    receiver = Receiver(cast("Connection", script), START, Limits(**given), explain)
    live.append(receiver)
    receiver.start()
    return receiver, script


def wait_for(receiver: Receiver) -> Chunk:
    chunk = receiver.get(60)
    assert chunk is not None
    return chunk


def test_a_chunk_ends_at_a_commit(live: list[Receiver]) -> None:
    receiver, _ = open_live(live, [begin(1100), row(), row(), commit(1100), begin(1200), row()])
    chunk = wait_for(receiver)
    assert list(chunk.frames.ends) == [1100]
    assert list(chunk.frames.lengths) == [10, 10]
    assert (chunk.end, chunk.complete, chunk.committed_us) == (1100, True, 1100)
    assert receiver.get(0.05) is None


def test_limits_are_kept() -> None:
    messages: list[bytes] = []
    for end in range(1100, 1100 + 50 * 100, 100):
        messages += [begin(end), row(), row(), row(), commit(end)]
    found, _, _ = chunks(messages, rows=10)
    assert sum(len(c.frames.lengths) for c in found) == 150
    assert all(len(c.frames.lengths) <= 12 for c in found)
    assert all(c.complete for c in found)
    assert found[-1].end == 6000


def test_a_transaction_over_the_limit_comes_in_parts() -> None:
    messages = [begin(1100), row(), commit(1100), begin(5000), *[row()] * 95, commit(5000)]
    messages += [begin(6000), row(), commit(6000)]
    found, _, _ = chunks(messages, rows=10)
    first = found[0]
    assert (first.complete, first.end, list(first.frames.ends)) == (True, 1100, [1100])
    parts = [c for c in found if not c.complete]
    assert len(parts) == 9
    for part in parts:
        # Behind the start of its commit record (4992), and not yet reached.
        assert (part.end, list(part.frames.ends)) == (1100, [4993])
    last = found[found.index(parts[-1]) + 1]
    assert (last.complete, last.end, list(last.frames.ends)) == (True, 5000, [5000])
    assert sum(len(c.frames.lengths) for c in found) == 97


def test_bytes_are_limited_too() -> None:
    found, _, _ = chunks([begin(1100), *[row(100)] * 50, commit(1100)], size=1000)
    assert all(len(c.frames.data) <= 1000 for c in found)
    assert [c.complete for c in found] == [False] * 5 + [True]


def test_frames_are_exactly_what_was_received() -> None:
    payloads = [b"I" + bytes([n]) * n for n in range(1, 60)]
    messages = [begin(1100), *map(xlog_data, payloads), commit(1100)]
    found, _, _ = chunks(messages, rows=7)
    got = []
    for chunk in found:
        at = 0
        for length in chunk.frames.lengths:
            got.append(bytes(chunk.frames.data[at : at + length]))
            at += length
        assert at == len(chunk.frames.data)
    assert got == payloads


def test_empty_transactions_only_move_the_position(live: list[Receiver]) -> None:
    receiver, _ = open_live(live, [begin(1100), commit(1100), begin(1200), row(), commit(1200)])
    chunk = wait_for(receiver)
    if not chunk.frames.ends:  # a slow machine: the position moved alone
        assert chunk.end == 1100
        chunk = wait_for(receiver)
    assert (list(chunk.frames.ends), list(chunk.frames.starts), chunk.end) == ([1200], [0], 1200)


def test_keepalives_move_the_position_outside_of_transactions(live: list[Receiver]) -> None:
    receiver, script = open_live(live, [keepalive(2000), begin(1900), keepalive(9000), row()])
    receiver.nudge()
    time.sleep(0.05)
    script.messages += [commit(3000)]
    found = [wait_for(receiver)]
    while found[-1].end < 3000:
        found.append(wait_for(receiver))
    assert [c.end for c in found if not c.frames.lengths] in ([2000], [])
    assert found[-1].end == 3000
    assert receiver.lag_bytes(0) == 6000


def test_a_keepalive_inside_a_transaction_says_nothing(live: list[Receiver]) -> None:
    receiver, script = open_live(live, [begin(1900), row(), keepalive(9000)])
    assert receiver.get(0.1) is None
    receiver.stop()
    assert struct.unpack_from(">cQ", script.sent[-1])[1] == START


def test_a_mark_comes_with_everything_before_it(live: list[Receiver]) -> None:
    receiver, _ = open_live(
        live,
        [
            begin(1100),
            row(),
            commit(1100),
            mark("foreign", prefix="other"),
            mark("one"),
            begin(1200),
            mark("two", transactional=True),
            row(),
        ],
    )
    chunk = wait_for(receiver)
    marks = list(chunk.marks)
    if not marks:
        marks = list(wait_for(receiver).marks)
    assert marks == ["one"]


def test_a_mark_of_an_open_transaction_waits_for_its_end(live: list[Receiver]) -> None:
    receiver, script = open_live(live, [begin(1200), mark("two", transactional=True)])
    assert receiver.get(0.1) is None
    script.messages.append(commit(1200))
    assert wait_for(receiver).marks == ("two",)


def test_keepalives_are_not_answered_unless_they_ask() -> None:
    _, script, _ = chunks([keepalive(n) for n in range(2000, 2500)])
    assert len(script.sent) <= 2
    _, script, _ = chunks([keepalive(2000, reply=True)] * 3)
    assert 3 <= len(script.sent) <= 5


def test_a_server_that_shuts_down_is_let_go() -> None:
    _, script, receiver = chunks([keepalive(2000, reply=True)] * (SHUTDOWN_REQUESTS + 5))
    assert len(script.messages) == 5
    assert script.closed
    with pytest.raises(SourceUnavailable, match="shutting down"):
        receiver.get(0)


def test_a_full_queue_stops_the_reading_and_not_the_feedback(live: list[Receiver]) -> None:
    messages: list[bytes] = []
    for end in range(1100, 1100 + 100 * 100, 100):
        messages += [begin(end), row(), commit(end)]
    receiver, script = open_live(live, messages, rows=5)
    # 2 chunks of 4 rows are in the queue, one is waiting to get in
    wait_until(lambda: len(script.messages) <= 300 - 3 * 4 * 3, 60)
    told = len(script.sent)
    wait_until(lambda: len(script.sent) > told, 60)
    assert len(script.messages) > 200
    ends: list[int] = []
    while len(ends) < 100:
        ends += wait_for(receiver).frames.ends
    assert ends == list(range(1100, 1100 + 100 * 100, 100))


def test_feedback_tells_what_was_confirmed(live: list[Receiver]) -> None:
    receiver, script = open_live(live, [begin(1100), row(), commit(1100)])
    wait_for(receiver)
    receiver.confirm(1100)
    receiver.confirm(900)
    receiver.stop()
    kind, written, flushed, applied, _, reply = struct.unpack(">cQQQqB", script.sent[-1])
    assert (kind, written, flushed, applied, reply) == (b"r", 1100, 1100, 1100, 0)
    assert script.closed


def test_a_nudge_asks_for_a_reply(live: list[Receiver]) -> None:
    receiver, script = open_live(live, [])
    receiver.nudge()
    wait_until(lambda: any(message[-1] == 1 for message in script.sent), 60)
    receiver.stop()
    receiver.nudge()  # after the end it does nothing


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds


def open_gathering(live: list[Receiver], rows: int = 100) -> tuple[Receiver, Script, Clock]:
    """Its first chunk was taken, and a commit came since, for which somebody waited in vain."""
    script, clock = Script([begin(1100), row(), commit(1100)]), Clock()
    limits = Limits(rows, 10_000, 2)
    receiver = Receiver(cast("Connection", script), START, limits, explain, clock.now)
    live.append(receiver)
    receiver.gather(60.0)
    receiver.start()
    assert list(wait_for(receiver).frames.ends) == [1100]
    clock.seconds += 59.9
    script.messages += [begin(1200), row(), commit(1200)]
    assert receiver.get(0.2) is None
    wait_until(lambda: not script.messages, 60)
    return receiver, script, clock


def test_what_is_gathered_comes_together_when_it_is_time(live: list[Receiver]) -> None:
    receiver, script, clock = open_gathering(live)
    script.messages += [begin(1300), row(), commit(1300)]
    wait_until(lambda: not script.messages, 60)
    assert receiver.get(0.1) is None
    clock.seconds += 0.2
    assert list(wait_for(receiver).frames.ends) == [1200, 1300]


def test_a_nudge_alone_does_not_end_the_gathering(live: list[Receiver]) -> None:
    """The lag is measured with it, and it is to have what is gathered."""
    receiver, script, clock = open_gathering(live)
    receiver.nudge()
    wait_until(lambda: any(message[-1] == 1 for message in script.sent), 60)
    assert receiver.get(0.2) is None
    clock.seconds += 0.2
    assert list(wait_for(receiver).frames.ends) == [1200]


def test_who_waits_gets_what_is_gathered_at_once(live: list[Receiver]) -> None:
    receiver, _, _ = open_gathering(live)
    receiver.gather(0.0)
    assert list(wait_for(receiver).frames.ends) == [1200]


def test_what_nobody_has_taken_is_counted(live: list[Receiver]) -> None:
    """What waits in a chunk, and what is in none yet; without the headers."""
    receiver, script, clock = open_gathering(live)
    size = len(row()) - len(xlog_data(b""))
    assert receiver.queued_bytes() == size
    clock.seconds += 0.2
    script.messages += [begin(1300), row(), row(), commit(1300)]
    receiver.gather(0.0)
    wait_until(lambda: receiver.queued_bytes() == 3 * size, 60)
    while receiver.queued_bytes():
        wait_for(receiver)


def test_a_mark_ends_the_gathering(live: list[Receiver]) -> None:
    receiver, script, _ = open_gathering(live)
    script.messages += [mark("one")]
    assert wait_for(receiver).marks == ("one",)


def test_what_is_full_is_not_gathered_for_longer(live: list[Receiver]) -> None:
    receiver, script, _ = open_gathering(live, rows=3)
    script.messages += [begin(1300), row(), row(), commit(1300)]
    assert wait_for(receiver).frames.ends[0] == 1200


def test_what_is_late_is_not_gathered_for_longer(live: list[Receiver]) -> None:
    """A backlog is not brought in any slower, whoever reads or does not."""
    receiver, script, clock = open_gathering(live)
    late = xlog_data(commit(1300)[25:], clock_us=1300 + 400_000)
    clock.seconds -= 59.0  # 0.9 s after the first one
    script.messages += [begin(1300), row(), late]
    assert list(wait_for(receiver).frames.ends) == [1200, 1300]


def test_stopping_is_safe_at_any_time(live: list[Receiver]) -> None:
    receiver, script = open_live(live, [])
    receiver.stop()
    receiver.stop()
    assert script.closed
    never = Receiver(cast("Connection", other := Script([])), START, Limits(1, 1, 1), explain)
    never.stop()
    assert other.closed
