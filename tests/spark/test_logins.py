"""The data source as a user of the source, over TLS: rights are the source's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from htapkit.testing.postgres import Database, PostgresServer, free_port
from tests.fix_mirror import mirrored
from tests.spark.conftest import Reads

pytestmark = [pytest.mark.spark, pytest.mark.integration, pytest.mark.long]

SETUP = """
create role app login password 'app-secret';
create table ev (id int primary key, val int, secret text);
insert into ev select g, g * 2, 's' || g from generate_series(1, 200) g;
grant select (id, val) on ev to app;
"""
LOGINS = """
host all postgres 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


@pytest.fixture(scope="module")
def guarded(htapkit: Reads, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reads]:
    """A port that wants passwords and speaks TLS."""
    folder = tmp_path_factory.mktemp("guarded")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(folder / "port.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "port.key"))
    port = free_port()
    flight = {
        "listen": f"127.0.0.1:{port}",
        "auth": "source",
        "tls_certificate": str(folder / "port.pem"),
        "tls_key": str(folder / "port.key"),
    }
    with PostgresServer(16) as server:
        database = Database(server, "shop")
        database.execute(SETUP)
        (server.data / "pg_hba.conf").write_text(LOGINS)
        server.reload()
        configuration = {"servers": {"flight": flight}}
        with mirrored(database, folder / "stack", configuration=configuration) as mirror:
            mirror.follows("ev")
            yield Reads(
                htapkit.session, f"grpc+tls://127.0.0.1:{port}", {"tls_ca": str(folder / "ca.pem")}
            )


def test_a_user_reads_what_it_may(guarded: Reads) -> None:
    login = {"user": "app", "password": "app-secret", "database": "shop"}
    frame = guarded.table("ev", schema="id int, val int", **login)
    assert frame.selectExpr("count(*)", "sum(val)").collect() == [(200, 40_200)]
    with pytest.raises(Exception, match="42501"):
        guarded.table("ev", **login).collect()
    with pytest.raises(Exception, match="42501"):
        guarded.table("ev", schema="secret string", **login).collect()


def test_who_cannot_log_in(guarded: Reads, tmp_path: Path) -> None:
    for options in ({"user": "app", "password": "wr0ng"}, {}, {"token": "t0ken"}):
        with pytest.raises(Exception, match="SQLSTATE 28") as caught:
            guarded.table("ev", **options)
        assert "wr0ng" not in str(caught.value)
        assert "t0ken" not in str(caught.value)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(Exception, match="certificate"):
        guarded.table("ev", user="app", password="app-secret", tls_ca=str(other))
