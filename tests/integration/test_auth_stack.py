"""`auth: source` through a whole htapkit: who sees which rows, and from where they come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trustme

from htapkit.sqlfiles import sql
from htapkit.testing.installation import installations, unprivileged_user
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import Stack

pytestmark = pytest.mark.integration

SETUP = """
create role htap login superuser replication password 'source-secret';
create role app login password 'app-secret';
create role stranger login password 'stranger-secret';
create role auditor login bypassrls password 'auditor-secret';
create table ev (id int primary key, val int, secret text);
insert into ev select g, g * 2, 's' || g from generate_series(1, 2000) g;
create table own (id int primary key, owner text);
insert into own select g, case when g % 4 = 0 then 'app' else 'other' end
  from generate_series(1, 2000) g;
alter table own enable row level security;
create policy mine on own for select using (owner = current_user);
create table hidden (id int primary key);
insert into hidden select generate_series(1, 2000);
grant select (id, val) on ev to app;
grant select on own to app, auditor;
"""


@dataclass(frozen=True)
class Place:
    """The whole server, and its source."""

    stack: Stack
    database: Database
    authority: Path

    def connect(self, user: str, **more: Any) -> psycopg.Connection:
        """With TLS, the certificate checked, and channel binding."""
        options: dict[str, Any] = {
            "password": f"{user}-secret",
            "sslmode": "verify-full",
            "channel_binding": "require",
            **more,
        }
        return psycopg.connect(
            host="127.0.0.1",
            port=self.stack.port,
            dbname="shop",
            user=user,
            **options,
            sslrootcert=str(self.authority),
            autocommit=True,
        )


def write_tls(folder: Path, authority: trustme.CA) -> tuple[Path, Path]:
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key = folder / "server.crt", folder / "server.key"
    chain.write_bytes(certificate.cert_chain_pems[0].bytes())
    key.touch(0o600)
    key.write_bytes(certificate.private_key_pem.bytes())
    return chain, key


def encrypted(server: PostgresServer, authority: trustme.CA) -> bool:
    """Give the server a certificate, where it was built with TLS."""
    if server.version != 15:
        return False
    for path in write_tls(server.data, authority):
        owner = unprivileged_user()
        if owner is not None:
            os.chown(path, owner.pw_uid, owner.pw_gid)
    server.reload(ssl="on")
    return True


@pytest.fixture(scope="module", params=[15, 16, 18], ids=["pg15-tls", "pg16", "pg18"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    if request.param not in installations():
        pytest.skip(f"PostgreSQL {request.param} is not installed here")
    folder = tmp_path_factory.mktemp("auth")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    chain, key = write_tls(folder, authority)
    with PostgresServer(request.param) as server:
        database = Database(server, "shop")
        database.execute(SETUP)
        database.execute(sql("source/auth_lookup"))
        kind = "hostssl" if encrypted(server, authority) else "host"
        hba = f"host all postgres 127.0.0.1/32 trust\n{kind} all all 127.0.0.1/32 scram-sha-256\n"
        hba += f"{kind} replication all 127.0.0.1/32 scram-sha-256\n"
        (server.data / "pg_hba.conf").write_text(hba)
        server.reload()
        dsn = f"host=127.0.0.1 port={server.port} dbname=shop user=htap password=source-secret"
        if kind == "hostssl":
            dsn += f" sslmode=verify-full sslrootcert={folder / 'ca.pem'} channel_binding=require"
        pgwire = {"listen": "127.0.0.1:0", "auth": "source"}
        pgwire |= {"tls_certificate": str(chain), "tls_key": str(key)}
        servers = {"pgwire": pgwire, "http": {"listen": "127.0.0.1:0"}}
        sources = {"shop": {"dsn": dsn, "tables": ["public.*"]}}
        with Stack(folder / "stack", sources, configuration={"servers": servers}) as stack:
            stack.wait_ready()
            yield Place(stack, database, folder / "ca.pem")


def route(connection: psycopg.Connection) -> str:
    row = connection.execute("show htapkit.last_route").fetchone()
    assert row is not None
    return str(row[0])


def test_granted_columns_come_from_the_copy(place: Place) -> None:
    with place.connect("app") as c:
        assert c.execute("select current_user, session_user").fetchone() == ("app", "app")
        assert c.execute("select count(*), sum(val) from ev").fetchone() == (2000, 4002000)
        assert route(c) == "hot"
        found = c.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
        assert found == (place.database.server.version == 15,)


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("app", "select max(secret) from ev"),
        ("app", "select count(*) from ev where secret > 'a'"),
        ("app", "select * from ev order by id"),
        ("app", "select count(*) from hidden"),
        ("stranger", "select count(*) from ev"),
        ("stranger", "select sum(val) from ev where id < 10"),
    ],
)
def test_without_the_right_the_sources_own_refusal_comes(
    place: Place, user: str, text: str
) -> None:
    with place.connect(user) as ours, place.database.connect() as there:
        there.execute(f"set role {user}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as expected:
            there.execute(text)
        for prepare in (False, True):
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as found:
                ours.execute(text, prepare=prepare)
            assert found.value.diag.message_primary == expected.value.diag.message_primary
            assert found.value.sqlstate == "42501"


def test_tables_with_row_security_are_for_the_source(place: Place) -> None:
    with place.connect("app") as c:
        assert c.execute("select count(*) from own").fetchone() == (500,)
        assert route(c) == "source"
    with place.connect("auditor") as c:
        assert c.execute("select count(*) from own").fetchone() == (2000,)
        assert route(c) == "hot"


def test_set_role_counts(place: Place) -> None:
    place.database.execute("create role limited; grant limited to app")
    try:
        with place.connect("app") as c:
            assert c.execute("select count(*) from ev").fetchone() == (2000,)
            c.execute("set role limited")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                c.execute("select count(*) from ev")
            c.execute("reset role")
            assert c.execute("select count(*) from ev").fetchone() == (2000,)
            assert route(c) == "hot"
    finally:
        place.database.execute("drop role limited")


def test_who_does_not_get_in(place: Place) -> None:
    with pytest.raises(psycopg.OperationalError, match='failed for user "app"'):
        place.connect("app", password="wrong")
    with pytest.raises(psycopg.OperationalError, match='failed for user "nobody"'):
        place.connect("nobody")
