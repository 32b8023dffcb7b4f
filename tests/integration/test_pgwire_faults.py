"""A fault of ours in a session: its client is told, the log has it, and the others go on."""

from __future__ import annotations

import psycopg
import pytest

from htapkit.testing.postgres import Database
from tests.integration.pgwire_fakes import serving

pytestmark = pytest.mark.integration


def test_a_fault_of_ours_is_told(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    with serving(database.dsn) as (server, _):
        dsn = f"host=127.0.0.1 port={server.port} user=postgres dbname=shop"
        with psycopg.connect(dsn, autocommit=True) as c:
            with pytest.raises(psycopg.errors.InternalError_, match="internal error of htapkit"):
                c.execute("/*hot*/ /*fault*/ select 1")
            assert c.closed
        assert "ZeroDivisionError" in caplog.text
        with psycopg.connect(dsn, autocommit=True) as c:
            assert c.execute("select 1").fetchone() == (1,)
