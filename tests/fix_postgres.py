"""Real PostgreSQL servers: started when first asked for, shared by the session, private to it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from htapkit.testing.installation import further, installations
from htapkit.testing.postgres import Database, PostgresServer

_numbers = itertools.count(1)
VERSIONS = sorted({16, 18, *({15, 17} & further().keys())})


def _server(version: int) -> Iterator[PostgresServer]:
    if version not in installations():
        pytest.skip(f"PostgreSQL {version} is not installed here")
    with PostgresServer(version) as server:
        yield server


@pytest.fixture(scope="session")
def pg15() -> Iterator[PostgresServer]:
    """Debian's own PostgreSQL 15, with TLS and the contrib modules, where it is installed."""
    yield from _server(15)


@pytest.fixture(scope="session")
def pg16() -> Iterator[PostgresServer]:
    """PostgreSQL 16."""
    yield from _server(16)


@pytest.fixture(scope="session")
def pg18() -> Iterator[PostgresServer]:
    """PostgreSQL 18."""
    yield from _server(18)


@pytest.fixture(scope="session")
def pg17() -> Iterator[PostgresServer]:
    """PostgreSQL 17, where HTAPKIT_POSTGRES says that there is one."""
    yield from _server(17)


@pytest.fixture(scope="session", params=VERSIONS, ids=[f"pg{version}" for version in VERSIONS])
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    """Each test once on 16 and once on 18; on 15 and 17, too, where HTAPKIT_POSTGRES has them."""
    server: PostgresServer = request.getfixturevalue(f"pg{request.param}")
    server.start()
    return server


@pytest.fixture
def database(pg: PostgresServer) -> Iterator[Database]:
    """A fresh database on `pg`; its slots are dropped with it."""
    fresh = Database(pg, f"test_{next(_numbers)}")
    try:
        yield fresh
    finally:
        fresh.drop()
