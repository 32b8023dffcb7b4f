"""`auth: source`: who gets in with what, as whom, and over which channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trustme

from htapkit.serve.pgwire import PgwireServer, load_tls
from htapkit.sqlfiles import sql
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import wait_until
from tests.integration.pgwire_fakes import FakeSource, cancelling, serving

pytestmark = pytest.mark.integration

HBA = """local all all trust
host all postgres 127.0.0.1/32 trust
host all weak 127.0.0.1/32 md5
host all htap 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""
ROLES = """
create role htap login password 'source-secret';
create role app login password 'good-pässword';
create role nologin password 'good';
create role expired login password 'good' valid until '2020-01-01';
create role bare login;
set password_encryption = 'md5';
create role weak login password 'weak-secret';
reset password_encryption;
"""


@dataclass(frozen=True)
class Place:
    """The port, and what it is made of."""

    server: PgwireServer
    fake: FakeSource
    database: Database
    authority: Path

    def connect(self, user: str, password: str, **more: Any) -> psycopg.Connection:
        """As a client would."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.server.port,
            dbname="shop",
            user=user,
            password=password,
            autocommit=True,
            **more,
        )


@pytest.fixture(scope="module", params=[16, 18], ids=["pg16", "pg18"])
def strict(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A server of its own that asks for passwords."""
    with PostgresServer(request.param) as server:
        database = Database(server, "auth")
        with database.connect() as connection:
            connection.execute(ROLES)
            connection.execute(sql("source/auth_lookup").encode())
        hba = server.data / "pg_hba.conf"
        hba.write_text(HBA)
        server.reload()
        yield database


@pytest.fixture
def place(strict: Database, tmp_path: Path) -> Iterator[Place]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    dsn = f"host=127.0.0.1 port={strict.server.port} dbname={strict.name} user=htap"
    dsn += " password=source-secret"
    tls = load_tls(tmp_path / "cert.pem", tmp_path / "key.pem")
    with serving(dsn, trust=False, tls=tls) as (server, fake):
        yield Place(server, fake, strict, tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("sslmode", "binding"), [("disable", "disable"), ("require", "disable"), ("require", "require")]
)
def test_the_session_at_the_source_is_the_users_own(
    place: Place, sslmode: str, binding: str
) -> None:
    with place.connect("app", "good-pässword", sslmode=sslmode, channel_binding=binding) as c:
        assert c.execute("select current_user, session_user").fetchone() == ("app", "app")
        assert c.info.parameter_status("session_authorization") in {"app", None}
        assert c.execute("/*hot*/ select 1").fetchone() == (1,)
    assert list(place.fake.recent.of("app"))
    assert not list(place.fake.recent.of("htap"))


def test_the_certificate_can_be_verified(place: Place) -> None:
    with place.connect(
        "app", "good-pässword", sslmode="verify-full", sslrootcert=str(place.authority)
    ) as c:
        assert c.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("app", "bad"),
        ("app", ""),
        ("nobody", "good"),
        ("nologin", "good"),
        ("expired", "good"),
        ("bare", "good"),
        ("weak", "weak-secret"),
        ("postgres", "anything"),
    ],
)
def test_who_does_not_get_in(
    place: Place, user: str, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names who tried; no password is in it."""
    with pytest.raises(psycopg.OperationalError) as found:
        place.connect(user, password)
    assert "password authentication failed" in str(found.value) or "no password" in str(found.value)
    wait_until(lambda: place.fake.origin.connections == 0, 60)
    if password:
        refused = [r.__dict__ for r in caplog.records if r.getMessage() == "login refused"]
        assert {(r["user"], r["client"]) for r in refused} == {(user, "127.0.0.1")}
        assert password not in str(refused)


def test_a_changed_password_counts_at_once(place: Place) -> None:
    execute = place.database.execute
    execute("alter role app password 'other'")
    try:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            place.connect("app", "good-pässword")
        place.connect("app", "other").close()
    finally:
        execute("alter role app password 'good-pässword'")


def test_the_sources_refusal_is_passed_on(place: Place) -> None:
    execute = place.database.execute
    execute("alter role app connection limit 0")
    try:
        with pytest.raises(psycopg.OperationalError, match='too many connections for role "app"'):
            place.connect("app", "good-pässword")
    finally:
        execute("alter role app connection limit -1")


def test_where_verifiers_cannot_be_read_the_password_goes_over_tls_only(place: Place) -> None:
    execute = place.database.execute
    execute("revoke execute on function htapkit.verifier(name) from htap")
    try:
        with place.connect("app", "good-pässword", sslmode="require") as c:
            assert c.execute("select current_user").fetchone() == ("app",)
        with place.connect("weak", "weak-secret", sslmode="require") as c:
            assert c.execute("select current_user").fetchone() == ("weak",)
        with pytest.raises(psycopg.OperationalError, match='failed for user "app"'):
            place.connect("app", "bad", sslmode="require")
        with pytest.raises(psycopg.OperationalError, match="sslmode=require"):
            place.connect("app", "good-pässword", sslmode="disable")
    finally:
        execute("grant execute on function htapkit.verifier(name) to htap")


def test_a_column_grant_is_enough(place: Place) -> None:
    execute = place.database.execute
    execute("revoke execute on function htapkit.verifier(name) from htap")
    execute("grant select (rolname, rolpassword) on pg_authid to htap")
    try:
        place.connect("app", "good-pässword", sslmode="disable").close()
    finally:
        execute("revoke select (rolname, rolpassword) on pg_authid from htap")
        execute("grant execute on function htapkit.verifier(name) to htap")


def test_cancel_works_over_tls(place: Place) -> None:
    with (
        place.connect("app", "good-pässword", sslmode="require") as c,
        cancelling(c),
        pytest.raises(psycopg.errors.QueryCanceled),
    ):
        c.execute("select pg_sleep(200)")
