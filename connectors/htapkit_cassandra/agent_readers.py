"""Readers that an agent has started: who has each, and how its output goes to him.

Nothing is kept here but one piece of output that is on its way: a taker who is slow makes the
reader wait for its pipe. A taker who is gone, or silent, ends it.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from htapkit.errors import SourceError
from htapkit_cassandra import link as wire
from htapkit_cassandra.here import STOP_SECONDS_MAX, Here, LocalChild
from htapkit_cassandra.link import Link, LinkLost
from htapkit_cassandra.machine import LOST
from htapkit_cassandra.mutations import LogPosition
from htapkit_cassandra.remote import told_segments

FAREWELL_SECONDS_MAX = 1.0
_LOOK_SECONDS = 0.5  # whether it is to stop
_IN = select.POLLIN | select.POLLHUP | select.POLLERR

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Held:
    """A reader, and who has it."""

    name: str
    client: str
    since: float  # of time.monotonic
    sent_bytes: int = 0


class TooMany(Exception):
    """A reader cannot be had now; the message says why."""


class Readers:
    """Which readers run: each name once, and no more than so many. Thread-safe."""

    def __init__(self, readers_max: int) -> None:
        """None yet."""
        self._max = readers_max
        self._held: dict[str, Held] = {}
        self._changed = threading.Condition()

    def running(self) -> list[Held]:
        """Those that run."""
        with self._changed:
            return list(self._held.values())

    def wait_none(self, seconds_max: float) -> None:
        """Until none runs, but no longer than that."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held, seconds_max)

    @contextmanager
    def held(
        self, name: str, client: str, seconds_max: float, waiting: Callable[[], None]
    ) -> Iterator[Held]:
        """One for this client, once who had it before is gone. Raises TooMany.

        `waiting` is called about every BEAT_SECONDS until then.
        """
        ours = Held(name, client, time.monotonic())
        deadline = time.monotonic() + seconds_max
        while not self._take(ours, deadline):
            waiting()
        try:
            yield ours
        finally:
            with self._changed:
                del self._held[name]
                self._changed.notify_all()

    def _take(self, ours: Held, deadline: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: not self._why_not(ours.name), wire.BEAT_SECONDS)
            reason = self._why_not(ours.name)
            if not reason:
                self._held[ours.name] = ours
            elif time.monotonic() >= deadline:
                raise TooMany(reason)
            return not reason

    def _why_not(self, name: str) -> str:
        if name in self._held:
            return f"the reader of {name} is held by {self._held[name].client}; one may have it"
        if len(self._held) >= self._max:
            return f"{self._max} readers run already (`readers` of the agent)"
        return ""


def pump(link: Link, child: LocalChild, here: Here, held: Held, stopping: threading.Event) -> str:
    """Give a reader's output to its client until either ends; why it ended.

    The client is told the log's files every BEAT_SECONDS, and may have some deleted.
    """
    process = child.process
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        try:
            code = _pumped(link, child, here, held, stopping)
        except (SourceError, ValueError, subprocess.TimeoutExpired) as error:
            link.put(wire.SAID, f"{error}\n".encode())
            link.send(wire.ENDED, wire.packed({"code": LOST}), FAREWELL_SECONDS_MAX)
            return str(error)
    except LinkLost as error:
        return f"its client is gone: {error}"
    finally:
        child.end()
        process.stdout.close()
        process.stderr.close()
    _until_taken(link, stopping)
    return f"it ended with code {code}"


def _pumped(
    link: Link, child: LocalChild, here: Here, held: Held, stopping: threading.Event
) -> int:
    """The reader's exit code, once that and all that it printed is sent. Raises what ends it."""
    process = child.process
    assert process.stdout is not None
    assert process.stderr is not None
    streams = {process.stdout.fileno(): wire.OUTPUT, process.stderr.fileno(): wire.SAID}
    heard, told = time.monotonic(), -wire.BEAT_SECONDS
    code: int | None = None
    while code is None or link.going:
        now = time.monotonic()
        if stopping.is_set():
            raise ValueError("the agent stops")
        if now - heard > wire.SILENT_SECONDS_MAX:
            raise LinkLost(f"it said nothing for {wire.SILENT_SECONDS_MAX:g} s")
        if not link.going and now >= told + wire.BEAT_SECONDS:
            told = now
            link.put(wire.FILES, wire.packed(told_segments(here.segments())))
        if not link.flush():
            _wait(link, (), select.POLLOUT)
        elif streams:
            _forward(link, streams, held)
        elif code is None:
            code = process.wait(STOP_SECONDS_MAX)
            link.put(wire.ENDED, wire.packed({"code": code}))
        if _heard(link, here):
            heard = time.monotonic()
    return code


def _until_taken(link: Link, stopping: threading.Event) -> None:
    """Until the client has all, and closes: to close before would throw away what is on its way."""
    heard = time.monotonic()
    with suppress(LinkLost, ValueError):
        while time.monotonic() - heard < wire.SILENT_SECONDS_MAX and not stopping.is_set():
            if link.receive(_LOOK_SECONDS) is not None:
                heard = time.monotonic()


def _forward(link: Link, streams: dict[int, bytes], held: Held) -> None:
    """One piece of each stream that has something, and has ended if it has nothing."""
    for number in _wait(link, tuple(streams), 0):
        piece = os.read(number, wire.PIECE_BYTES)
        if piece:
            link.put(streams[number], piece)
            held.sent_bytes += len(piece)
        else:
            del streams[number]


def _wait(link: Link, numbers: tuple[int, ...], more: int) -> list[int]:
    """Those of the files that have something, or have ended; also woken by the client."""
    poll = select.poll()
    poll.register(link, _IN | more)
    for number in numbers:
        poll.register(number, _IN)
    found = poll.poll(_LOOK_SECONDS * 1000)
    return [number for number, _ in found if number in numbers]


def _heard(link: Link, here: Here) -> bool:
    """Whether the client said something. Raises LinkLost, ValueError."""
    heard = False
    while (frame := link.receive(0)) is not None:
        heard = True
        kind, payload = frame
        if kind == wire.FORGET:
            _forget(here, payload)
        elif kind != wire.ALIVE:
            raise ValueError(f"its client sent {kind!r}")
    return heard


def _forget(here: Here, payload: bytes) -> None:
    segment, _, offset = payload.decode("ascii").partition(":")
    position = LogPosition(int(segment), int(offset))
    if not here.deletes:
        _log.warning("nothing is deleted before %s: delete_cdc_raw of the agent is false", position)
        return
    with suppress(OSError):
        here.forget(position)
