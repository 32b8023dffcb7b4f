"""The agent: runs the readers beside a node for an htapkit elsewhere, which it lets in by a token.

It answers one question for each connection. It opens no file that a question names but the node's
own: folders are its own settings' business.
"""

from __future__ import annotations

import hmac
import logging
import re
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from htapkit.errors import ConfigError, SourceError, SourceUnavailable
from htapkit_cassandra import link as wire
from htapkit_cassandra.agent_readers import FAREWELL_SECONDS_MAX, Readers, TooMany, pump
from htapkit_cassandra.agent_settings import AgentSettings
from htapkit_cassandra.here import Here, LocalChild
from htapkit_cassandra.link import Link, LinkLost
from htapkit_cassandra.machine import Copied
from htapkit_cassandra.mutations import LogPosition
from htapkit_cassandra.remote import told_seen

CONNECTIONS_MAX = 64
HELLO_SECONDS_MAX = 10.0
ASK_SECONDS_MAX = 60.0
# For a reader that is ending: it may have a snapshot to clear. Who comes back later tries again.
WAIT_SECONDS_MAX = 12.0
STOP_SECONDS_MAX = 30.0
DATA_FOLDERS_MAX = 64
_ACCEPT_SECONDS = 0.2  # between looks whether it is to stop
_NAME = re.compile(r"\w{1,255}", re.ASCII)  # of a source, a keyspace, a table
_TAG = re.compile(r"[\w-][\w.-]{0,199}", re.ASCII)
_FOLDER = re.compile(r"[^\0]{1,4096}")
_PLACE = re.compile(r"(\d{1,19}):(\d{1,10})", re.ASCII)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A reader that is asked for: of the log, or (`copied`) of a table's files."""

    source: str
    schema: str
    start: LogPosition | None = None
    copied: Copied | None = None

    @property
    def name(self) -> str:
        """One of this name runs at a time."""
        if self.copied is None:
            return f"log ({self.source})"
        return f"{self.copied.keyspace}.{self.copied.table} ({self.copied.tag})"


class Agent:
    """The service. `run` serves until `stop`."""

    def __init__(self, settings: AgentSettings) -> None:
        """Listen. Raises ConfigError where the address or a certificate cannot be had."""
        self._settings = settings
        self._begun = time.monotonic()
        self._stopping = threading.Event()
        self._readers = Readers(settings.readers)
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._folder = settings.folder / "readers"
        # What a kill left. Whoever calls us sees to it that nobody else is here.
        shutil.rmtree(self._folder, ignore_errors=True)
        self._context()
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            self._listener = socket.create_server((settings.host, settings.port), family=family)
        except OSError as error:
            raise ConfigError(f"cannot listen on {settings.listen}: {error}") from error
        self.port = int(self._listener.getsockname()[1])
        self._listener.settimeout(_ACCEPT_SECONDS)

    def _context(self) -> ssl.SSLContext | None:
        """Read anew for each connection, as certificates are renewed. Raises ConfigError."""
        settings = self._settings
        if not settings.tls_certificate:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use tls_certificate and tls_key: {error}") from error
        return context

    def run(self) -> None:
        """Serve until `stop`; then end the readers."""
        with self._listener:
            while not self._stopping.is_set():
                try:
                    opened, client = self._listener.accept()
                except TimeoutError:
                    continue
                except OSError as error:
                    _log.warning("a connection could not be taken: %s", error)
                    self._stopping.wait(_ACCEPT_SECONDS)
                    continue
                if not self._free.acquire(blocking=False):
                    _log.warning("%s: too many connections (%s)", client[0], CONNECTIONS_MAX)
                    opened.close()
                    continue
                name = f"{client[0]}:{client[1]}"
                threading.Thread(target=self._serve, args=(opened, name), daemon=True).start()
        self._readers.wait_none(STOP_SECONDS_MAX)
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> None:
        """Have `run` end. Safe to call twice, and from a signal."""
        self._stopping.set()

    def _serve(self, opened: socket.socket, client: str) -> None:
        try:
            self._serve_client(opened, client)
        except OSError as error:  # LinkLost and what TLS says, too
            _log.info("%s: %s", client, error)
        except ConfigError as error:
            _log.error("%s: %s", client, error)
        except Exception:  # noqa: BLE001 - whatever it was, the others are served
            _log.exception("%s: the connection is given up", client)
        finally:
            opened.close()
            self._free.release()

    def _serve_client(self, opened: socket.socket, client: str) -> None:
        opened.settimeout(HELLO_SECONDS_MAX)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = self._context()
        if context is not None:
            opened = context.wrap_socket(opened, server_side=True)
        link = Link(opened, wire.HELLO_BYTES_MAX)
        try:
            try:
                self._welcome(link)
                link.frames.frame_bytes_max = wire.ASK_BYTES_MAX
                asked = _frame(link, wire.ASK, ASK_SECONDS_MAX)
                link.frames.frame_bytes_max = wire.HELLO_BYTES_MAX
                self._answer(link, client, asked)
            except (SourceError, ConfigError, TooMany) as error:
                again = isinstance(error, SourceUnavailable | TooMany)
                self._refuse(link, client, str(error), again=again)
            except (ValueError, TypeError, KeyError) as error:
                self._refuse(link, client, f"this is no question to an agent: {error!r}")
        finally:
            link.close()

    def _welcome(self, link: Link) -> None:
        """Raises ConfigError where the client is not let in."""
        hello = _frame(link, wire.HELLO, HELLO_SECONDS_MAX)
        token = hello.get("token")
        # Compared as bytes, for as long as it takes whatever it is.
        given = token.encode() if isinstance(token, str) else b""
        if not hmac.compare_digest(given, self._settings.token.encode()):
            raise ConfigError("wrong token; it is to be the agent's own (agent_token)")
        if hello.get("protocol") != wire.PROTOCOL:
            raise ConfigError(
                f"it speaks protocol {wire.PROTOCOL}, and was asked in {hello.get('protocol')}; "
                "install the same htapkit on both machines"
            )
        link.send(wire.WELCOME, wire.packed({"version": version("htapkit")}), HELLO_SECONDS_MAX)

    def _refuse(self, link: Link, client: str, message: str, *, again: bool = False) -> None:
        _log.warning("%s: refused: %s", client, message)
        payload = wire.packed({"message": message, "again": again})
        link.send(wire.REFUSED, payload, FAREWELL_SECONDS_MAX)
        # What was not read of its words would make the answer be thrown away.
        with suppress(LinkLost, ValueError):
            link.frames.frame_bytes_max = wire.HELLO_BYTES_MAX
            link.receive(FAREWELL_SECONDS_MAX)

    def _answer(self, link: Link, client: str, asked: Mapping[str, Any]) -> None:
        what = asked["ask"]
        if what == "look":
            seen = self._here().look(_folders(asked["data_folders"]))
            link.send(wire.ANSWER, wire.packed(told_seen(seen)))
        elif what == "status":
            link.send(wire.ANSWER, wire.packed(self.status()))
        else:
            self._read(link, client, reader_asked(asked))

    def _here(self, source: str = "") -> Here:
        return self._settings.here(self._folder / source if source else self._folder)

    def _read(self, link: Link, client: str, asked: Asked) -> None:
        def waiting() -> None:
            link.send(wire.ALIVE)

        with self._readers.held(asked.name, client, WAIT_SECONDS_MAX, waiting) as held:
            here = self._here(asked.source)
            child = self._started(here, asked)
            _log.info("%s: reader of %s begins, process %s", client, asked.name, child.pid)
            link.put(wire.STARTED, wire.packed({"pid": child.pid}))
            why = pump(link, child, here, held, self._stopping)
            _log.info("%s: reader of %s: %s", client, asked.name, why)

    def _started(self, here: Here, asked: Asked) -> LocalChild:
        if asked.copied is not None:
            return here.read_table(asked.schema, asked.copied)
        return here.read_log(asked.schema, asked.start)

    def status(self) -> dict[str, object]:
        """What it does now."""
        now = time.monotonic()
        readers = [
            {
                "reader": held.name,
                "client": held.client,
                "seconds": round(now - held.since),
                "sent_bytes": held.sent_bytes,
            }
            for held in self._readers.running()
        ]
        return {
            "version": version("htapkit"),
            "seconds": round(now - self._begun),
            "readers": readers,
            "seen": told_seen(self._here().look([])),
        }


def _frame(link: Link, kind: bytes, seconds_max: float) -> dict[str, Any]:
    """The next one, which has to be of this kind. Raises LinkLost, ValueError."""
    frame = link.receive(seconds_max)
    if frame is None:
        raise LinkLost(f"nothing came for {seconds_max:g} s")
    if frame[0] != kind:
        raise ValueError(f"a message {frame[0]!r}, where {kind!r} is next")
    return wire.unpacked(frame[1])


def _folders(found: object) -> list[str] | None:
    """Those that the node itself names. ValueError."""
    if found is None:
        return None
    if not isinstance(found, list) or len(found) > DATA_FOLDERS_MAX:
        raise ValueError("data_folders")
    return [_matching(_FOLDER, folder) for folder in found]


def reader_asked(asked: Mapping[str, Any]) -> Asked:
    """The reader that a question is about. KeyError, ValueError, TypeError: it is none."""
    source, schema = _matching(_NAME, asked["source"]), asked["schema"]
    wire.unpacked(schema)  # is one
    if asked["ask"] == "table":
        table = (_matching(_NAME, asked["keyspace"]), _matching(_NAME, asked["table"]))
        after = asked.get("after")
        if after is not None and not (type(after) is int and -(2**63) <= after < 2**63):
            raise ValueError("after")
        return Asked(source, schema, copied=Copied(*table, _matching(_TAG, asked["tag"]), after))
    if asked["ask"] != "log":
        raise ValueError("ask")
    start = asked["from"]
    if start is None:
        return Asked(source, schema)
    segment, _, offset = _matching(_PLACE, start).partition(":")
    return Asked(source, schema, LogPosition(int(segment), int(offset)))


def _matching(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"expected a text like {pattern.pattern}")
    return value
