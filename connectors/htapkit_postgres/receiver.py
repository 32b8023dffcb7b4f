"""The thread that owns the replication connection: bytes in, chunks of whole transactions out.

It looks into Begin, Commit and our own marks only; rows are decoded by whoever takes the chunks.
It never blocks the source: while nobody takes chunks it stops reading, and goes on saying that it
lives. It never answers a keepalive that did not ask, because each answer brings another one.

Cheap on purpose: the server sends every message by itself, and a reader that wakes for each costs
both sides twice the work. So it reads until there is nothing left, and naps while the taker is
busy.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import psycopg
from psycopg import pq

from htapkit.errors import SourceError
from htapkit_postgres.chunk import Chunk, Limits, Pending
from htapkit_postgres.connection import Connection
from htapkit_postgres.decode import Frames
from htapkit_postgres.pgoutput import (
    BEGIN,
    COMMIT,
    COMMIT_END_LSN,
    COMMIT_TIME,
    MESSAGE,
    XLOG_DATA,
    parse_begin,
    parse_keepalive,
    parse_message,
    standby_status,
)

MARK_PREFIX = "htapkit"
FEEDBACK_SECONDS = 1.0
NUDGE_SECONDS_MIN = 0.005
MOVE_SECONDS = 1.0
HAND_OVER_SECONDS_MIN = 0.004
HAND_OVER_SECONDS_BEHIND = 0.05  # catching up: larger batches cost less a row
BEHIND_US = 300_000
NAP_MS = 1
GATHER_NAP_MS = 50  # while changes are gathered, the server's lie in the socket's buffers
SHUTDOWN_REQUESTS = 10
_HEADER = 25  # XLOG_DATA_HEADER_BYTES, in the hot loop
_END = slice(_HEADER + COMMIT_END_LSN.start, _HEADER + COMMIT_END_LSN.stop)
_SENT = slice(17, _HEADER)  # when the server sent it, by its own clock
_TIME = slice(_HEADER + COMMIT_TIME.start, _HEADER + COMMIT_TIME.stop)

Explain = Callable[[str, str], SourceError]
"""Our error for an SQLSTATE ("" = none) and a message."""


class Receiver:
    """See the module. `get` is for one thread; what else is for the taker, for any."""

    def __init__(
        self,
        connection: Connection,
        start: int,
        limits: Limits,
        explain: Explain,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connection` is in COPY_BOTH mode, streaming from `start`; it is ours from now on."""
        self._owned = connection
        self._connection = connection.pgconn
        self._limits = limits
        self._explain = explain
        self._clock = clock
        self._ready = threading.Condition()
        self._chunks: deque[Chunk] = deque()
        self._failure: SourceError | None = None
        self._pending = Pending()
        self._position = self._confirmed = start
        self._handed = 0  # where the stream begins is news, too
        self._server_end = start
        self._final = 0  # of the open transaction; 0: none is open
        self._parted = False  # a part of the open transaction was handed over
        self._waiting = self._resting = self._stopping = self._ending = False
        self._nudged = self._asked = False
        self._nudged_at = self._handed_at = self._feedback_at = 0.0
        self._behind = False
        self._gather_seconds = 0.0
        self._requests: deque[float] = deque(maxlen=SHUTDOWN_REQUESTS)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="htapkit-receive", daemon=True)

    # -- for the taker --

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def get(self, timeout_seconds: float) -> Chunk | None:
        """The next chunk, None when none came in time. Raises why the stream ended."""
        with self._ready:
            if not self._chunks and self._failure is None:
                self._waiting = True
                self._wake()
                self._ready.wait_for(lambda: self._chunks or self._failure, timeout_seconds)
                self._waiting = False
            if self._chunks:
                self._ready.notify_all()
                return self._chunks.popleft()
            if self._failure is not None:
                raise self._failure
            return None

    def confirm(self, lsn: int) -> None:
        """The server may forget all up to here."""
        self._confirmed = max(self._confirmed, lsn)

    def nudge(self) -> None:
        """Ask the server for its newest position; it comes as a chunk."""
        self._nudged = True
        self._wake()

    def gather(self, seconds: float) -> None:
        """Hand over no sooner than so long after the last time; what is full or marked is."""
        sooner = seconds < self._gather_seconds
        self._gather_seconds = seconds
        if sooner:
            self._wake()

    def queued_bytes(self) -> int:
        """Bytes of messages that nobody has taken."""
        with self._ready:
            return len(self._pending.data) + sum(len(c.frames.data) for c in self._chunks)

    def lag_bytes(self, head: int) -> int:
        """From what was received to the newest known end of the server's log."""
        return max(0, max(head, self._server_end) - self._position)

    def stop(self) -> None:
        """Confirm, let go of the connection and wait until it is closed."""
        self._stopping = True
        self._wake(always=True)
        with self._ready:
            self._ready.notify_all()
        if self._thread.is_alive():
            self._thread.join(FEEDBACK_SECONDS * 5)
        elif self._thread.ident is None:
            self._owned.close()

    def _wake(self, *, always: bool = False) -> None:
        if self._resting or always:
            with self._wake_lock, suppress(BlockingIOError):  # full: it will wake anyway
                if self._wake_write >= 0:
                    os.write(self._wake_write, b"x")

    # -- the thread --

    def _run(self) -> None:
        failure: SourceError | None = None
        try:
            self._receive()
            self._feedback()
        except psycopg.Error as error:
            failure = self._explain(error.sqlstate or "", str(error))
        except SourceError as error:
            failure = error
        finally:
            self._owned.close()
            self._ending = True
            if self._complete() and not self._parted:
                self._hand_over()  # what is whole is good, however the stream ended
            with self._ready:
                self._failure = failure or self._explain("", "the stream was closed")
                self._ready.notify_all()
            with self._wake_lock:
                os.close(self._wake_read)
                os.close(self._wake_write)
                self._wake_write = -1

    def _receive(self) -> None:
        get = self._connection.get_copy_data
        rows_max, bytes_max = self._limits.rows, self._limits.bytes
        dry = False
        while not self._stopping:
            count, data = get(1)
            if count > 0:
                dry = False
                if data[0] != XLOG_DATA:
                    self._keepalive(data)
                    continue
                kind = data[_HEADER]
                if kind == COMMIT:
                    self._commit(data)
                elif kind == BEGIN:
                    self._begin(data)
                elif kind == MESSAGE:
                    self._message(data)
                else:
                    pending = self._pending
                    pending.data += data[_HEADER:]
                    lengths = pending.lengths
                    lengths.append(count - _HEADER)
                    if len(pending.data) >= bytes_max or len(lengths) >= rows_max:
                        self._cut()
                    if not len(lengths) & 255:
                        self._tick()
            elif count == 0:
                # One read takes only what fits libpq's buffer: there may be more.
                if dry:
                    self._rest()
                self._connection.consume_input()
                dry = not dry
            else:
                raise self._ended()

    def _ended(self) -> SourceError:
        result = self._connection.get_result()
        if result is None:
            return self._explain("", "server closed the connection")
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
        words = message.decode(errors="replace") or "server closed the connection"
        return self._explain(state.decode(), words)

    def _begin(self, data: memoryview) -> None:
        pending = self._pending
        begin = parse_begin(data[_HEADER:])
        self._final = begin.final_lsn
        pending.open_data = len(pending.data)
        pending.open_marks = len(pending.marks)
        pending.starts.append(len(pending.lengths))
        # Its end is not known yet; anything behind the start of its commit record orders it alike.
        pending.ends.append(self._final + 1)
        pending.times.append(begin.committed_us)

    def _commit(self, data: memoryview) -> None:
        pending = self._pending
        self._position = int.from_bytes(data[_END])
        self._final = 0
        pending.committed_us = int.from_bytes(data[_TIME], signed=True)
        behind_us = int.from_bytes(data[_SENT], signed=True) - pending.committed_us
        self._behind = behind_us > BEHIND_US
        if pending.starts[-1] == len(pending.lengths) and not self._parted:
            del pending.starts[-1], pending.ends[-1], pending.times[-1]
        else:
            pending.ends[-1] = self._position
        full = len(pending.lengths) >= self._limits.rows or len(pending.data) >= self._limits.bytes
        if (
            full
            or self._parted
            or (self._waiting and self._clock() - self._handed_at >= self._gap_seconds())
        ):
            self._hand_over()

    def _message(self, data: memoryview) -> None:
        message = parse_message(data[_HEADER:])
        if message.prefix == MARK_PREFIX:
            self._pending.marks.append(message.content.decode(errors="replace"))

    def _keepalive(self, data: memoryview) -> None:
        keepalive = parse_keepalive(data)
        self._server_end = max(self._server_end, keepalive.wal_end)
        if not self._final and keepalive.wal_end > self._position:
            self._position = keepalive.wal_end
        if self._asked and not self._final and not self._pending.lengths:
            self._asked = False
            if self._position > self._handed:
                self._hand_over()
        if keepalive.reply_wanted:
            self._feedback()
            now = self._clock()
            self._requests.append(now)
            if len(self._requests) == SHUTDOWN_REQUESTS and now - self._requests[0] < 1.0:
                # A server that shuts down asks without pause until all is confirmed, and does not
                # end before. It has sent everything: let it go.
                raise self._explain("57P01", "the server is shutting down")

    def _cut(self) -> None:
        """The limit is reached in a transaction: hand over those before it, or a part of it."""
        if self._pending.starts and self._pending.starts[-1] > 0:
            self._hand_over()
        elif self._final:
            self._parted = True
            self._hand_over()

    def _hand_over(self) -> None:
        """Queue what is complete; with `_parted`, what there is of the open transaction."""
        pending = self._pending
        part = self._parted and self._final != 0
        self._pending = pending.take_open(part=part) if self._final else Pending()
        now = self._clock()
        chunk = Chunk(
            Frames(pending.data, pending.lengths, pending.starts, pending.ends, pending.times),
            end=self._handed if part else self._position,
            complete=not part,
            committed_us=pending.committed_us,
            marks=tuple(pending.marks),
            received_seconds=now,
        )
        self._handed_at = now
        if not part:
            self._handed = self._position
            self._parted = self._asked = False
        self._put(chunk)

    def _put(self, chunk: Chunk) -> None:
        while True:
            with self._ready:
                if self._ready.wait_for(self._has_room, FEEDBACK_SECONDS / 2):
                    self._chunks.append(chunk)
                    self._waiting = False
                    self._ready.notify_all()
                    return
            # Nobody takes chunks: read no more, and tell the server that we live.
            self._tick()

    def _has_room(self) -> bool:
        return len(self._chunks) < self._limits.chunks or self._stopping or self._ending

    def _complete(self) -> bool:
        """Whether something is there that could be handed over."""
        pending = self._pending
        if self._final:
            return pending.starts[-1] > 0 or pending.open_marks > 0
        return bool(pending.lengths or pending.marks)

    def _rest(self) -> None:
        """Nothing to read: hand over if somebody waits, then sleep until something happens."""
        self._tick()
        now = self._clock()
        if self._nudged and now - self._nudged_at >= NUDGE_SECONDS_MIN:
            self._nudged = False
            self._asked = True
            self._nudged_at = now
            self._feedback(reply=True)
        moved = self._position > self._handed and not self._final
        due = self._complete() or (moved and (self._asked or now - self._handed_at >= MOVE_SECONDS))
        only_wake, timeout_ms = False, int(FEEDBACK_SECONDS * 500)
        if due and not self._parted:
            self._resting = True  # before looking: whoever starts to wait now wakes us
            if self._waiting:
                left = self._gap_seconds() - (now - self._handed_at)
                urgent = (self._asked and not self._gather_seconds) or bool(self._pending.marks)
                if left <= 0 or urgent or not self._complete():
                    self._resting = False
                    self._hand_over()
                    return
                only_wake, timeout_ms = True, max(1, min(GATHER_NAP_MS, int(left * 1000)))
            elif self._complete():
                only_wake, timeout_ms = True, NAP_MS
        elif self._nudged:
            timeout_ms = max(1, int(NUDGE_SECONDS_MIN * 1000))
        self._sleep(timeout_ms, only_wake=only_wake)

    def _gap_seconds(self) -> float:
        """From one chunk to the next. What is late is not kept for longer."""
        if self._behind:
            return HAND_OVER_SECONDS_BEHIND
        return max(HAND_OVER_SECONDS_MIN, self._gather_seconds)

    def _sleep(self, timeout_ms: int, *, only_wake: bool) -> None:
        self._resting = True
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if not only_wake:
            poll.register(self._connection.socket, select.POLLIN)
        if self._stopping or (
            self._nudged and self._clock() - self._nudged_at >= NUDGE_SECONDS_MIN
        ):
            timeout_ms = 0
        for fd, _ in poll.poll(timeout_ms):
            if fd == self._wake_read:
                os.read(self._wake_read, 4096)
        self._resting = False

    def _tick(self) -> None:
        if self._clock() - self._feedback_at >= FEEDBACK_SECONDS:
            self._feedback()

    def _feedback(self, *, reply: bool = False) -> None:
        """Tell the server what we have; `reply`: and ask for its newest position."""
        self._feedback_at = self._clock()
        clock_us = time.time_ns() // 1000 - 946_684_800_000_000
        status = standby_status(
            self._position, self._confirmed, self._confirmed, clock_us, reply=reply
        )
        self._connection.put_copy_data(status)
        self._connection.flush()
