"""The DSN, the password file and SASLprep, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from htapkit.errors import LimitReached, SourceUnavailable
from htapkit.scram import certificate_hash
from htapkit.spi import OwnRole
from htapkit_postgres.origin import PostgresOrigin
from htapkit_postgres.server import Server, sasl_prepared


def test_dsn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    server = Server.from_dsn("postgresql://me:se%20cret@a:1,b:2/shop?sslmode=require")
    assert [(each.host, each.port) for each in server.addresses] == [("a", 1), ("b", 2)]
    assert (server.user, server.database, server.sslmode) == ("me", "shop", "require")
    assert server.password() == "se cret"
    assert "cret" not in repr(server)
    assert Server.from_dsn("host=/run/x user=me").addresses[0].local


def test_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "given")
    assert Server.from_dsn("host=a user=me").password() == "given"


def test_password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    path = tmp_path / "pgpass"
    path.write_text("# no\nother:*:*:*:wrong\na:5432:*:me:p\\:a\\\\ss:word\n")
    path.chmod(0o600)
    server = Server.from_dsn(f"host=a user=me dbname=d passfile={path}")
    assert server.password() == "p:a\\ss:word"
    assert Server.from_dsn(f"host=a user=you dbname=d passfile={path}").password() == ""
    path.chmod(0o644)
    assert server.password() == "", "a file that others may read does not count"


def test_saslprep() -> None:
    """Examples of RFC 4013, section 3."""
    assert sasl_prepared("I\u00adX") == "IX"
    assert sasl_prepared("user") == "user"
    assert sasl_prepared("\u00aa") == "a"
    assert sasl_prepared("\u2168") == "IX"
    assert sasl_prepared("\u0007\u00aa") == "\u0007\u00aa", "prohibited: as it is"
    assert sasl_prepared("\u0627\u0031") == "\u0627\u0031", "wrong direction: as it is"


def test_certificate_hash_is_sha256_at_least() -> None:
    sha384 = bytes.fromhex("06092a864886f70d01010c")
    assert len(certificate_hash(b"x")) == 32
    assert len(certificate_hash(b"x" + sha384)) == 48


def test_connections_are_counted() -> None:
    def never() -> None:
        raise AssertionError

    origin = PostgresOrigin("shop", "host=127.0.0.1 port=1 user=me", 1, never)  # type: ignore[arg-type]
    with pytest.raises(SourceUnavailable, match=r"source shop does not answer: 127\.0\.0\.1:1: "):
        origin.open("me", {}, OwnRole())
    assert origin.connections == 0
    none = PostgresOrigin("shop", "host=127.0.0.1 port=1 user=me", 0, never)  # type: ignore[arg-type]
    with pytest.raises(LimitReached, match="source_connections") as found:
        none.open("me", {}, OwnRole())
    assert found.value.sqlstate == "53300"
