"""Sessions over CQL, and the one place where the driver's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
PROTOCOL = 5  # of Cassandra 4.0 and later


@contextmanager
def session(settings: Settings) -> Iterator[Session]:
    """A session on the configured nodes, none other; closed at the end. Raises SourceError.

    What is read here (schema, truncations, settings) is the word of the node whose log is read.
    """
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
        connect_timeout=CONNECT_SECONDS_MAX,
        control_connection_timeout=CONNECT_SECONDS_MAX,  # instead of 2: it is part of connecting
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
