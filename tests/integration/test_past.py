"""AS OF through the port: the lake as it was at a run, and never the present in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from htapkit.testing.postgres import PostgresServer
from tests.fix_mirror import JOB_SECONDS, Mirrored, fresh_database, last_route, mirrored

pytestmark = pytest.mark.integration

CONFIGURATION = {
    "tables": {"shop.public.events": {"partition": "day", "hot": "10 days"}},
    "lake": {"interval": "1 hour"},
}


@pytest.fixture(scope="module")
def lake(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """One mirror for all tests of the module, and a table of which the most is in the lake."""
    folder = tmp_path_factory.mktemp("past")
    with (
        fresh_database(pg) as database,
        mirrored(database, folder, configuration=CONFIGURATION) as one,
    ):
        one.make(
            "events",
            "create table events (id bigint primary key, at timestamptz not null, kind text, "
            "amount numeric(12,2))",
            "insert into events select g, now() - g * interval '1 hour', 'k' || g % 5, g / 7.0 "
            "from generate_series(1, 1000) g",
        )
        _tier(one)
        yield one


def _tier(mirror: Mirrored) -> None:
    with mirror.stack.client() as client:
        client.wait(client.tier(["shop.public.events"], None)["id"], timeout_seconds=JOB_SECONDS)


def _row(mirror: Mirrored, sql: str) -> tuple[Any, ...]:
    """The source's own answer."""
    with mirror.database.connect() as source:
        found = source.execute(sql).fetchone()
    assert found is not None
    return found


def test_the_past_is_read_as_it_was(lake: Mirrored) -> None:
    """Set for a session or written in the statement, with and without parameters."""
    edge, first = _row(
        lake, "select (date_trunc('day', now()) - interval '12 days')::text, now()::text"
    )
    sql = (
        "select count(*), count(*) filter (where kind = 'new'), max(id) from events "
        f"where at < '{edge}'"
    )
    before = _row(lake, sql)
    lake.run("update events set kind = 'new' where id = 999", "delete from events where id = 998")
    after = _row(lake, sql)
    _tier(lake)
    assert before != after
    plus = sql.replace("max(id)", "max(id) + %s")
    with lake.port("auto") as port:
        assert port.execute(sql).fetchone() == after
        port.execute(f"set htapkit.as_of = '{first}'")
        assert port.execute(sql).fetchone() == before
        assert last_route(port) == "lake"
        assert port.execute(plus, [1]).fetchone() == (*before[:2], before[2] + 1)
        shown = f"select to_char(max(at), 'FMMonth'), avg(amount) from events where at < '{edge}'"
        assert port.execute(shown).fetchone() is not None
        assert last_route(port) == "lake"
        for refused in ("select count(*) from events", "delete from events"):
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                port.execute(refused)
        port.execute("reset htapkit.as_of")
        assert port.execute(sql).fetchone() == after
        named = f"from events for system_time as of '{first}'"
        assert port.execute(sql.replace("from events", named)).fetchone() == before
        assert last_route(port) == "lake"
        found = port.execute(plus.replace("from events", named), [1]).fetchone()
        assert found == (*before[:2], before[2] + 1)


def test_a_transaction_that_has_written_does_not_get_the_present(lake: Mirrored) -> None:
    """It stays at the source, which has no past."""
    (now,) = _row(lake, "select now()::text")
    with lake.port("auto") as port:
        port.autocommit = False
        port.execute("update events set kind = 'x' where id = 1")
        port.execute(f"set htapkit.as_of = '{now}'")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="has written"):
            port.execute("select count(*) from events where at < '2020-01-01'")
        port.rollback()
