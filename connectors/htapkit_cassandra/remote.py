"""A machine with an agent (`htapkit cassandra-agent`): the node's files are read there.

What a reader prints comes over a connection of its own, which is its life line as well: it ends
with the reader, and the reader with it.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from htapkit.errors import SourceRefused, SourceUnavailable
from htapkit_cassandra import link as wire
from htapkit_cassandra.link import Frame, Link, LinkLost
from htapkit_cassandra.machine import LOST, Copied, Seen
from htapkit_cassandra.mutations import LogPosition
from htapkit_cassandra.segments import Segments

CONNECT_SECONDS_MAX = 5.0
# It waits for who had the same reader before, and tells meanwhile that it is alive.
ANSWER_SECONDS_MAX = wire.SILENT_SECONDS_MAX
FORGET_SECONDS_MAX = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where an agent is, and how it is spoken with."""

    host: str
    port: int
    token: str = field(repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """For people."""
        return wire.shown_address(self.host, self.port)


def trusting(ca: str) -> ssl.SSLContext:
    """TLS with whoever has a certificate of this file's authorities. Raises SourceRefused."""
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise SourceRefused(f"cannot read the certificates in agent_ca ({ca}): {error}") from error


def connect(address: Address) -> tuple[Link, Mapping[str, Any]]:
    """A connection that the agent has welcomed, and what it said of itself.

    Raises SourceUnavailable where nobody answers, SourceRefused where it does not let us in.
    """
    try:
        opened = socket.create_connection((address.host, address.port), CONNECT_SECONDS_MAX)
    except OSError as error:
        raise SourceUnavailable(f"the agent at {address} does not answer: {error}") from error
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = Link(_encrypted(opened, address), wire.FRAME_BYTES_MAX)
    except BaseException:
        opened.close()
        raise
    try:
        hello = {"protocol": wire.PROTOCOL, "token": address.token}
        made.send(wire.HELLO, wire.packed(hello), CONNECT_SECONDS_MAX)
        return made, answered(made, address, wire.WELCOME, CONNECT_SECONDS_MAX)
    except LinkLost as error:
        made.close()
        raise SourceUnavailable(
            f"the agent at {address} ended the connection before it let us in ({error}); "
            f"perhaps {'it speaks plain text' if address.tls else 'it wants TLS (agent_ca)'}"
        ) from error
    except BaseException:
        made.close()
        raise


def _encrypted(opened: socket.socket, address: Address) -> socket.socket:
    if address.tls is None:
        return opened
    try:
        return address.tls.wrap_socket(opened, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        raise SourceRefused(
            f"the agent at {address} is not trusted: {error.verify_message}; agent_ca is to have "
            "the certificate that its own is signed by, which is to name this host"
        ) from error
    except ssl.SSLEOFError as error:
        raise SourceUnavailable(f"the agent at {address} ended the connection") from error
    except ssl.SSLError as error:
        raise SourceRefused(
            f"the agent at {address} does not speak TLS ({error.reason}); without agent_ca it is "
            "spoken with in plain text"
        ) from error
    except OSError as error:
        raise SourceUnavailable(f"the agent at {address} does not answer: {error}") from error


def answered(
    made: Link, address: Address, wanted: bytes, within_seconds: float
) -> Mapping[str, Any]:
    """The agent's answer. Raises LinkLost, SourceUnavailable, SourceRefused."""
    try:
        frame = made.receive(within_seconds)
        while frame is not None and frame[0] == wire.ALIVE:
            frame = made.receive(within_seconds)
        kind, payload = frame or (b"", b"{}")
        found = wire.unpacked(payload)
    except ValueError as error:
        raise SourceRefused(
            f"what answers at {address} is no agent, or wants TLS (agent_ca): {error}"
        ) from error
    if frame is None:
        raise SourceUnavailable(f"the agent at {address} said nothing for {within_seconds:g} s")
    if kind == wire.REFUSED:
        message = f"the agent at {address}: {found.get('message')}"
        raise SourceUnavailable(message) if found.get("again") else SourceRefused(message)
    if kind != wanted:
        raise SourceRefused(f"the agent at {address} speaks another language ({kind!r})")
    return found


class Remote:
    """A `machine.Machine`: a node's machine, where an agent runs."""

    def __init__(self, address: Address, source: str) -> None:
        """Nothing is connected yet."""
        self._address = address
        self._source = source
        self._segments = Segments()
        self._log: RemoteChild | None = None  # the reader of the log, as last started

    @property
    def name(self) -> str:
        """Whose log it is."""
        return f"cdc_raw at the agent {self._address}"

    def ask(self, asked: Mapping[str, object]) -> Mapping[str, Any]:
        """A question and its answer. Raises SourceUnavailable, SourceRefused."""
        made, hello = connect(self._address)
        with closing(made):
            return {**self._asked(made, asked, wire.ANSWER), "agent": hello.get("version", "?")}

    def _asked(self, made: Link, asked: Mapping[str, object], wanted: bytes) -> Mapping[str, Any]:
        payload = wire.packed(asked)
        if len(payload) > wire.ASK_BYTES_MAX:
            raise SourceRefused(
                f"a schema of {len(payload)} bytes is too large for the agent at {self._address} "
                f"({wire.ASK_BYTES_MAX} at most)"
            )
        try:
            made.send(wire.ASK, payload, ANSWER_SECONDS_MAX)
            return answered(made, self._address, wanted, ANSWER_SECONDS_MAX)
        except LinkLost as error:
            raise SourceUnavailable(
                f"the agent at {self._address} ended the connection: {error}"
            ) from error

    def look(self, data_folders: Sequence[str] | None = None) -> Seen:
        """As the agent sees it. Raises SourceUnavailable, SourceRefused."""
        folders = None if data_folders is None else list(data_folders)
        found = self.ask({"ask": "look", "data_folders": folders})
        try:
            seen = seen_of(found)
        except (KeyError, TypeError, ValueError) as error:
            raise SourceRefused(f"the agent at {self._address} speaks another language") from error
        self._segments = seen.segments
        return seen

    def read_log(self, schema: str, start: LogPosition | None) -> RemoteChild:
        """Start the reader of the log. Raises SourceUnavailable, SourceRefused."""
        asked = {"ask": "log", "from": str(start) if start else None}
        self._log = self._started({**asked, "source": self._source, "schema": schema})
        return self._log

    def read_table(self, schema: str, copied: Copied) -> RemoteChild:
        """Start the reader of a table's files. Raises SourceUnavailable, SourceRefused."""
        table = {"keyspace": copied.keyspace, "table": copied.table, "tag": copied.tag}
        # An agent of an older htapkit does not know `after`, and has all read as one.
        asked = {"ask": "table", **table, "after": copied.after}
        return self._started({**asked, "source": self._source, "schema": schema})

    def _started(self, asked: Mapping[str, object]) -> RemoteChild:
        made, _ = connect(self._address)
        try:
            started = self._asked(made, asked, wire.STARTED)
            return RemoteChild(made, int(started["pid"]), str(self._address), self._heard)
        except BaseException:
            made.close()
            raise

    def _heard(self, segments: Segments) -> None:
        self._segments = segments

    def segments(self) -> Segments:
        """The log's files, as the agent last told them."""
        return self._segments

    def forget(self, position: LogPosition) -> None:
        """Have it delete what lies before, while its reader runs; the next call says it again."""
        if self._log is not None:
            self._log.forget(position)


class RemoteChild:
    """A `machine.Child` at an agent."""

    def __init__(self, made: Link, pid: int, where: str, heard: Callable[[Segments], None]) -> None:
        """It runs. `heard` is told the log's files."""
        self.pid = pid
        self.said = ""
        self._link = made
        self._where = where
        self._heard = heard
        self._code = LOST
        self._forgotten = 0  # the segment before which all was to be deleted
        self._ended = threading.Event()
        self._alive = threading.Thread(target=self._tell_alive, daemon=True)
        self._alive.start()

    def _tell_alive(self) -> None:
        """Also while nobody takes what it prints: else the agent would end it."""
        try:
            while not self._ended.wait(wire.BEAT_SECONDS):
                self._link.send(wire.ALIVE)
        except LinkLost:
            self._link.shut()

    def lines(self) -> Generator[bytes, None, None]:
        """Its standard output; `said`, and the log's files, are kept meanwhile."""
        printed, said = wire.WholeLines(), wire.WholeLines()
        try:
            while True:
                kind, payload = self._frame()
                if kind == wire.OUTPUT:
                    yield from printed.feed(payload)
                elif kind == wire.SAID:
                    self._say(said.feed(payload))
                elif kind == wire.FILES:
                    self._heard(segments_of(wire.unpacked(payload)))
                elif kind == wire.ENDED:
                    self._code = int(wire.unpacked(payload)["code"])
                    break
            self._say([said.rest()])
            if printed.rest():
                yield printed.rest()
        except (LinkLost, ValueError, KeyError, TypeError) as error:
            self.said = f"the connection to the agent at {self._where} was lost: {error}"
        finally:
            self._ended.set()
            self._link.shut()
            self._alive.join()
            self._link.close()

    def _frame(self) -> Frame:
        frame = self._link.receive(wire.SILENT_SECONDS_MAX)
        if frame is None:
            raise LinkLost(f"nothing came for {wire.SILENT_SECONDS_MAX:g} s")
        return frame

    def _say(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self.said = line.decode(errors="replace").strip() or self.said
            _log.info("log reader at %s: %s", self._where, self.said)

    def forget(self, position: LogPosition) -> None:
        """Once for each segment, as long as the connection lives."""
        if self._ended.is_set() or position.segment <= self._forgotten:
            return
        try:
            self._link.send(wire.FORGET, str(position).encode(), FORGET_SECONDS_MAX)
            self._forgotten = position.segment
        except LinkLost as error:
            _log.info("the agent at %s deletes nothing now: %s", self._where, error)

    def wait(self) -> int:
        """Its exit code, or LOST."""
        return self._code

    def end(self) -> None:
        """The agent ends it once the connection has ended. Safe to call twice."""
        self._ended.set()
        self._link.shut()


def segments_of(found: Mapping[str, Any]) -> Segments:
    """As `told_segments` put it."""
    end = found["end"]
    return Segments(
        None if end is None else LogPosition(int(end[0]), int(end[1])),
        tuple((int(segment), int(size)) for segment, size in found["sizes"]),
    )


def told_segments(segments: Segments) -> dict[str, object]:
    """For a frame."""
    end = segments.end
    return {
        "end": None if end is None else [end.segment, end.offset],
        "sizes": [list(each) for each in segments.sizes],
    }


def seen_of(found: Mapping[str, Any]) -> Seen:
    """As `told_seen` put it. KeyError, TypeError, ValueError: it did not."""
    plain = {name: found[name] for name in _SEEN}
    return Seen(
        **plain,
        segments=segments_of(found["segments"]),
        data_folders=tuple(found["data_folders"]),
        unread=tuple(found["unread"]),
        agent=str(found["agent"]),
    )


def told_seen(seen: Seen) -> dict[str, object]:
    """For a frame."""
    plain: dict[str, object] = {name: getattr(seen, name) for name in _SEEN}
    lists = {"data_folders": list(seen.data_folders), "unread": list(seen.unread)}
    return {**plain, **lists, "segments": told_segments(seen.segments)}


_SEEN = ("java", "jars", "cdc_raw", "readable", "used_bytes", "deletes", "jmx", "jmx_problem")
