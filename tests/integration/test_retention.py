"""What is older than `retention` leaves hot and lake, for good; the source still has it.

The source is the oracle: of all statements for `auto`, of what is kept for forced routes.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from htapkit import failpoints
from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import wait_until
from tests.fix_mirror import JOB_SECONDS, Mirrored, fresh_database, last_route, mirrored, printed

pytestmark = pytest.mark.integration

CONFIGURATION = {
    "tables": {
        **{
            f"shop.public.events_{number}": {"hot": "10 days", "retention": "30 days"}
            for number in range(20)
        },
        "shop.public.recent": {"time_column": "day", "retention": "30 days"},
        "shop.public.unsure": {"retention": "30 days"},
    },
    # What nobody can read any more goes at once, only what a test asks for is done.
    "lake": {"interval": "1 hour", "keep": "1 s"},
    "limits": {"statement_time": "5 s"},
}
_numbers = itertools.count()


@pytest.fixture(scope="module")
def lake(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """One mirror for all tests of the module."""
    folder = tmp_path_factory.mktemp("retention")
    with (
        fresh_database(pg) as database,
        mirrored(database, folder, configuration=CONFIGURATION) as one,
    ):
        yield one


@pytest.fixture
def events(lake: Mirrored) -> str:
    """A table of 1,000 rows, one an hour: a quarter is hot, the rest in the lake."""
    name = f"events_{next(_numbers) % 20}"
    lake.make(
        name,
        f"create table {name} (id bigint primary key, at timestamptz not null, kind text, "
        "big text)",
        f"alter table {name} alter big set storage external",
        f"insert into {name} select g, now() - g * interval '1 hour', 'k' || g % 5, "
        "repeat(md5(g::text), 100) from generate_series(1, 1000) g",
    )
    _job(lake, "tier", name)
    return name


def _job(mirror: Mirrored, verb: str, table: str) -> dict[str, Any]:
    """Do it now; what it says of the table."""
    with mirror.stack.client() as client:
        job = getattr(client, verb)([f"shop.public.{table}"])
        (found,) = client.wait(job["id"], timeout_seconds=JOB_SECONDS)["tables"]
    return dict(found)


def _since(mirror: Mirrored, table: str) -> str:
    return str(mirror.table(table)["kept_since"])


def _kept(mirror: Mirrored, events: str) -> None:
    """A forced route has exactly what is kept; `auto` has everything, and says who answered."""
    since = _since(mirror, events)
    everything = f"select id, at, kind, md5(big) from {events} order by id"
    kept = everything.replace(" order", f" where at >= '{since}' order")
    with mirror.port("union") as port, mirror.database.connect() as source:
        assert printed(port, everything) == printed(source, kept)
    with mirror.port("auto") as port, mirror.database.connect() as source:
        for sql, route in ((everything, "source"), (kept, "union")):
            assert printed(port, sql) == printed(source, sql)
            assert last_route(port) == route, sql
    mirror.verified(events)


def test_old_ranges_leave_hot_and_lake(lake: Mirrored, events: str) -> None:
    before = int(lake.table(events)["lake_rows"])
    done = _job(lake, "retain", events)
    line = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(30)
    assert datetime.fromisoformat(_since(lake, events)) == line
    old = lake.database.execute(f"select count(*) from {events} where at < %s", [line])[0][0]
    assert 230 < old < 290
    assert (done["hot_rows"], done["lake_rows"]) == (0, old)
    assert lake.table(events)["lake_rows"] == before - old
    _kept(lake, events)
    assert _job(lake, "retain", events)["lake_rows"] == 0, "there is nothing more to do"
    # The files go with the versions that have them.
    warehouse = Path(lake.stack.config_path.parent) / "data" / "warehouse" / "shop.public" / events
    day = (line - timedelta(2)).strftime("%Y-%m-%d")
    assert list(warehouse.rglob(f"*{day}*")), "partitions are folders"

    def gone() -> bool:
        _job(lake, "expire", events)
        return not list(warehouse.rglob(f"*{day}*/*.parquet"))

    wait_until(gone, 60, lake.stack.log_end)
    _kept(lake, events)


def test_no_later_change_brings_an_old_row_back(lake: Mirrored, events: str) -> None:
    _job(lake, "retain", events)
    lake.run(
        f"insert into {events} values (5000, now() - interval '40 days', 'late', 'x')",
        f"update {events} set kind = 'old' where id between 900 and 1000",
        f"delete from {events} where id in (990, 991)",
        f"update {events} set at = at - interval '60 days' where id in (1, 500)",
        f"update {events} set at = now() - interval '20 days', big = 'new' where id = 980",
        f"update {events} set kind = 'again' where id = 980",
    )
    _kept(lake, events)
    _job(lake, "tier", events)
    _kept(lake, events)
    with lake.stack.client() as client:
        again = client.wait(
            client.backfill(f"shop.public.{events}")["id"], timeout_seconds=JOB_SECONDS
        )
    assert (again["missing"], again["surplus"]) == (0, 0), "it corrects nothing that is not kept"
    _kept(lake, events)
    assert lake.copies(events) == 1
    # The long value that is not sent again is only at the source: the table is copied again.
    lake.run(f"update {events} set at = now() - interval '15 days' where id = 970")
    lake.is_copied(events, 2)
    lake.follows(events)
    lake.verified(events)
    _job(lake, "tier", events)
    _kept(lake, events)
    with lake.stack.client() as client:
        client.table_action("resync", f"shop.public.{events}")
    lake.is_copied(events, 3)
    assert _since(lake, events)
    lake.verified(events)


def test_values_decide_who_answers(lake: Mirrored, events: str) -> None:
    _job(lake, "retain", events)
    sql = f"select count(*), min(id) from {events} where at >= %s"
    now = datetime.now(UTC)
    with lake.port("auto") as port, lake.database.connect() as source:
        for days, route in ((20, "union"), (40, "source"), (5, "union")):
            value = [now - timedelta(days)]
            assert port.execute(sql, value).fetchone() == source.execute(sql, value).fetchone()
            assert last_route(port) == route, days
        for days, route in ((20, "union"), (40, "source")):
            clock = f"select count(*) from {events} where at >= now() - interval '{days} days'"
            assert port.execute(clock).fetchone() == source.execute(clock).fetchone()
            assert last_route(port) == route, days
        port.execute(f"set htapkit.as_of = '{datetime.now(UTC)}'")
        edge = now - timedelta(15)
        past = (
            f"select count(*) from {events} where at < '{edge}' and at >= '{now - timedelta(20)}'"
        )
        assert port.execute(past).fetchone() == source.execute(past).fetchone()
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="no longer keeps"):
            port.execute(f"select count(*) from {events} where at < '{edge}'")


def test_what_is_hot_only(lake: Mirrored, events: str) -> None:
    """No lake is needed; and what cannot be cut says so."""
    lake.make(
        "recent",
        "create table recent (id int primary key, day date, v text)",
        "insert into recent select g, current_date - g, 'v' from generate_series(1, 99) g",
        "insert into recent values (100, null, 'none'), (101, '-infinity', 'always')",
    )
    lake.make(
        "unsure", "create table unsure (id int primary key, a date not null, b date not null)"
    )
    assert _job(lake, "retain", "recent")["hot_rows"] == 69
    with lake.port("hot") as port:
        assert port.execute("select count(*) from recent").fetchone() == (32,)
    lake.verified("recent")
    assert lake.table("recent")["time_column_inferred"] is False
    assert lake.table(events)["time_column"] == "at"
    assert lake.table(events)["time_column_inferred"] is True
    assert "choose one of" in lake.table("unsure")["history_why"]
    with pytest.raises(ServerRefused, match="choose one of"):
        _job(lake, "retain", "unsure")


def test_kills_while_old_rows_leave(lake: Mirrored, events: str) -> None:
    """At each named place; afterwards, what the copy has is always what its horizon says."""
    assert not _since(lake, events)
    lake.stack.stop()
    for name in failpoints.RETENTION:
        lake.stack.start({"HTAPKIT_FAILPOINT": f"{name}:1"})
        lake.follows(events)
        with lake.stack.client() as client, suppress(ServerUnreachable):  # it dies of it
            client.retain([f"shop.public.{events}"])
        assert lake.stack.wait_ended(60) == -signal.SIGKILL, lake.stack.log_end()
        lake.stack.start()
        lake.follows(events)
        assert _since(lake, events), name
        lake.run(f"update {events} set kind = kind || '!' where id % 100 = 0")
        _kept(lake, events)
        if name != "retain.flipped":
            lake.stack.stop()
    assert _job(lake, "retain", events)["lake_rows"] == 0
    _kept(lake, events)
