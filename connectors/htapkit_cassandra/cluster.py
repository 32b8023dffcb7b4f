"""Sessions over CQL, and the one place where the driver's errors become ours."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from cassandra import DriverException
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.policies import WhiteListRoundRobinPolicy

from htapkit.errors import SourceError, SourceRefused, SourceUnavailable
from htapkit_cassandra.settings import Settings

CONNECT_SECONDS_MAX = 10
REQUEST_SECONDS_MAX = 30
ANSWER_SECONDS_MAX = 5  # of one node among several: another may answer
REST_SECONDS = 10.0  # one of several that did not is taken to be silent for so long
PROTOCOL = 5  # of Cassandra 4.0 and later

# It tells of every other node of the ring at each connection.
logging.getLogger("cassandra.cluster").setLevel(logging.WARNING)


@contextmanager
def session(settings: Settings) -> Iterator[Session]:
    """A session on a configured node, none other; closed at the end. Raises SourceError.

    What is read here (schema, truncations, settings) is the word of the node whose log is read. Of
    `nodes` it is the first that answers: not each in its turn, since they may differ for a moment.
    """
    each = settings.each()
    seconds = CONNECT_SECONDS_MAX if len(each) == 1 else ANSWER_SECONDS_MAX
    with _first([partial(_session, one, seconds) for one in each]) as opened:
        yield opened


@contextmanager
def _first(openers: list[Callable[[], AbstractContextManager[Session]]]) -> Iterator[Session]:
    """What the first of them gives that is available. Raises SourceError."""
    with ExitStack() as kept:
        said = []
        for opener in openers:
            try:
                opened = kept.enter_context(opener())
                break
            except SourceUnavailable as error:
                said.append(str(error))
        else:
            raise SourceUnavailable("; ".join(said))
        yield opened


class Sessions:
    """One session for each node, kept between calls; opened anew after an error. Thread-safe.

    Hold only one at a time: each is locked while it is used. One of several that does not answer
    costs ANSWER_SECONDS_MAX, and then nothing for REST_SECONDS.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected yet."""
        each = settings.each()
        self._kept = {one.hosts: _Kept(one, several=len(each) > 1) for one in each}

    def of(self, node: Settings) -> AbstractContextManager[Session]:
        """On that node, one caller after the other. Errors inside become ours."""
        return self._kept[node.hosts].session()

    def first(self) -> AbstractContextManager[Session]:
        """As `session`: on the first node that answers."""
        return _first([kept.session for kept in self._kept.values()])

    def close(self) -> None:
        """Let go of all of them. Safe to call twice."""
        for kept in self._kept.values():
            kept.close()


class _Kept:
    """The session of one node."""

    def __init__(self, settings: Settings, *, several: bool) -> None:
        self._settings = settings
        self._several = several
        self._silent = ""  # why it did not answer
        self._not_before = 0.0
        self._lock = threading.RLock()
        self._stack = ExitStack()
        self._session: Session | None = None

    @contextmanager
    def session(self) -> Iterator[Session]:
        with self._lock:
            if time.monotonic() < self._not_before:
                raise SourceUnavailable(self._silent)
            try:
                with translated(self._settings):
                    yield self._answering()
            except SourceUnavailable as error:
                self.close()
                if self._several:
                    self._silent, self._not_before = str(error), time.monotonic() + REST_SECONDS
                raise

    def _answering(self) -> Session:
        seconds = ANSWER_SECONDS_MAX if self._several else CONNECT_SECONDS_MAX
        if self._session is None:
            self._session = self._stack.enter_context(_session(self._settings, seconds))
        else:
            timeout = seconds if self._several else REQUEST_SECONDS_MAX
            self._session.execute("SELECT key FROM system.local", timeout=timeout)
        return self._session

    def close(self) -> None:
        with self._lock:
            self._session = None
            self._stack.close()


@contextmanager
def _session(settings: Settings, connect_seconds: float) -> Iterator[Session]:
    login = None
    if settings.user:
        login = PlainTextAuthProvider(settings.user, settings.password)
    profile = ExecutionProfile(
        load_balancing_policy=WhiteListRoundRobinPolicy(list(settings.hosts)),
        request_timeout=REQUEST_SECONDS_MAX,
    )
    cluster = Cluster(
        list(settings.hosts),
        port=settings.port,
        protocol_version=PROTOCOL,
        auth_provider=login,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=connect_seconds,
        control_connection_timeout=connect_seconds,  # instead of 2: it is part of connecting
        schema_metadata_enabled=False,
        token_metadata_enabled=False,
    )
    try:
        with translated(settings):
            yield cluster.connect()
    finally:
        cluster.shutdown()


@contextmanager
def translated(settings: Settings) -> Iterator[None]:
    """Turn the driver's errors inside into ours."""
    try:
        yield
    except (DriverException, NoHostAvailable) as error:
        raise _translate(settings, error) from None


def _translate(settings: Settings, error: Exception) -> SourceError:
    causes = list(error.errors.values()) if isinstance(error, NoHostAvailable) else [error]
    names = {type(cause).__name__ for cause in causes}
    text = " ".join("; ".join(str(cause) for cause in causes).split())
    if settings.password:
        text = text.replace(settings.password, "…")
    where = f"{settings.source} ({', '.join(settings.hosts)}, port {settings.port})"
    if "AuthenticationFailed" in names:
        return SourceRefused(f"{where}: {text}; check user and password")
    if names & {"Unauthorized", "InvalidRequest", "SyntaxException"}:
        return SourceRefused(f"{where}: {text}")
    return SourceUnavailable(f"{where}: {text}")
