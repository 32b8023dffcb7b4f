"""One statement over hot and lake is exact at every moment, whatever happens to old rows.

The source is the oracle, the read is strong, and the route says that the lake was part of it.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import yaml

from htapkit.client import ServerRefused
from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import wait_until
from tests.fix_mirror import (
    JOB_SECONDS,
    Mirrored,
    difference,
    fresh_database,
    last_route,
    mirrored,
    printed,
)

pytestmark = pytest.mark.integration

SETTINGS = {"partition": "day", "hot": "10 days"}
CONFIGURATION = {
    "tables": {
        **{f"shop.public.events_{number}": SETTINGS for number in range(20)},
        "shop.public.notes": {**SETTINGS, "time_column": "at"},
    },
    "lake": {"interval": "1 hour"},  # only what a test asks for
}


@pytest.fixture(scope="module")
def lake(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """One mirror for all tests of the module."""
    folder = tmp_path_factory.mktemp("lake")
    with (
        fresh_database(pg) as database,
        mirrored(database, folder, configuration=CONFIGURATION) as one,
    ):
        yield one


def _tier(mirror: Mirrored, *tables: str, older_than: str | None = None) -> int:
    """Move ranges now; how many rows left the hot store."""
    with mirror.stack.client() as client:
        names = [f"shop.public.{table}" for table in tables]
        job = client.tier(names, older_than)
        result = client.wait(job["id"], timeout_seconds=JOB_SECONDS)
    return sum(row["rows"] for row in result["tables"])


def _same(mirror: Mirrored, sql: str, route: str = "union") -> None:
    """The port's answer is the source's, by this route."""
    with mirror.port("auto") as port, mirror.database.connect() as source:
        ours, theirs = printed(port, sql), printed(source, sql)
        assert last_route(port) == route, sql
        assert ours[0] == theirs[0], f"{sql}: columns differ"
        if ours[1] != theirs[1]:
            pytest.fail(f"{sql}: {difference(ours[1], theirs[1])}", pytrace=False)


_numbers = itertools.count()


def _events(mirror: Mirrored, type_: str = "timestamptz") -> str:
    """A table of 1,000 rows, one an hour, of which those older than ten days have moved."""
    name = f"events_{next(_numbers) % 20}"
    mirror.run(f"drop table if exists {name}")
    mirror.make(
        name,
        f"create table {name} (id bigint primary key, at {type_} not null, kind text, "
        "amount numeric(12,2), small int2, big text)",
        f"alter table {name} alter big set storage external",
        f"insert into {name} select g, now() - g * interval '1 hour', 'k' || g % 5, g / 7.0, "
        f"g % 100, repeat(md5(g::text), 100) from generate_series(1, 1000) g",
    )
    moved = _tier(mirror, name)
    assert 700 < moved < 800, "ten days of one row an hour stay"
    return name


def _everything(mirror: Mirrored, name: str, route: str = "union") -> None:
    _same(mirror, f"select * from {name} order by id", route)
    _same(
        mirror,
        f"select kind, count(*), sum(amount), min(at), max(small) from {name} "
        "group by kind order by kind",
        route,
    )


def test_a_moved_range_is_still_part_of_every_answer(lake: Mirrored) -> None:
    events = _events(lake)
    _everything(lake, events)
    with lake.stack.client() as client:
        source = client.status()["sources"][0]
    table = next(t for t in source["tables"] if t["table"] == f"shop.public.{events}")
    assert table["lake_rows"] + table["rows"] == 1000
    assert table["lake_below"]
    # What is younger than the line needs no look into the lake.
    young = datetime.now(UTC) - timedelta(days=2)
    _same(lake, f"select count(*), sum(amount) from {events} where at >= '{young}'", "hot")
    lake.verified(events, _events(lake, "date"))


def test_old_rows_that_change(lake: Mirrored) -> None:
    events = _events(lake)
    lake.run(f"update {events} set amount = -amount where id % 10 = 0")
    _everything(lake, events)
    lake.run(f"delete from {events} where id % 9 = 0")
    _everything(lake, events)
    lake.run(f"insert into {events} values (5000, now() - interval '30 days', 'late', 1, 1, 'x')")
    _everything(lake, events)
    lake.transaction(
        f"delete from {events} where id = 800",
        f"insert into {events} values (800, now() - interval '33 days', 'again', 2, 2, 'y')",
        f"update {events} set kind = 'once more' where id = 800",
        f"update {events} set kind = 'old' where id = 801",
        f"delete from {events} where id = 801",
    )
    _everything(lake, events)
    lake.verified(events)
    # Folding works all that into the lake, and the next changes meet the new version.
    _tier(lake, events)
    _everything(lake, events)
    lake.run(f"update {events} set kind = kind || '!' where id in (5000, 800, 700)")
    _everything(lake, events)
    lake.run(f"delete from {events} where id in (5000, 800, 700, 20)")
    _everything(lake, events)
    assert lake.copies(events) == 1
    lake.verified(events)


def test_values_that_were_not_sent_again(lake: Mirrored) -> None:
    """An update of an old row leaves out its long text: the lake has it."""
    events = _events(lake)
    lake.run(f"update {events} set kind = 'toasted' where id in (900, 901, 902, 3)")
    _everything(lake, events)
    lake.run(f"update {events} set id = id + 10000 where id in (901, 903)")
    _everything(lake, events)
    _tier(lake, events)
    _everything(lake, events)
    assert lake.copies(events) == 1


def test_rows_that_cross_the_line(lake: Mirrored) -> None:
    events = _events(lake)
    lake.run(f"update {events} set at = now() where id = 950")  # old to young
    lake.run(f"update {events} set at = at - interval '60 days' where id = 5")  # young to old
    _everything(lake, events)
    lake.run(
        f"update {events} set id = 6000 where id = 951",
        f"update {events} set id = 951 where id = 6",
    )
    _everything(lake, events)
    _tier(lake, events)
    _everything(lake, events)
    lake.verified(events)


@pytest.mark.parametrize("type_", ["date", "timestamp"])
def test_other_types_of_time(lake: Mirrored, type_: str) -> None:
    name = _events(lake, type_)
    lake.run(
        f"update {name} set amount = 0 where id in (990, 991)", f"delete from {name} where id = 992"
    )
    _everything(lake, name)


def test_times_that_no_range_holds(lake: Mirrored) -> None:
    """Rows without a finite time stay hot; so does a key of several columns."""
    lake.run("drop table if exists notes")
    lake.make(
        "notes",
        "create table notes (id int, part text, at timestamp, v text, primary key (part, id))",
        "insert into notes select g, 'p' || g % 3, timestamp '2020-01-01' + g * interval '1 day', "
        "'v' from generate_series(1, 300) g",
        "insert into notes values (1, 'n', null, 'null'), (2, 'n', 'infinity', 'never'), "
        "(3, 'n', '-infinity', 'always'), (4, 'n', '0044-03-15 BC', 'ides')",
    )
    assert _tier(lake, "notes") == 301
    _same(lake, "select * from notes order by part, id")
    lake.run(
        "update notes set at = null where id = 7",
        "update notes set at = '2020-02-02' where v = 'null'",
        "update notes set part = 'q' where id between 10 and 20",
        "delete from notes where id between 30 and 40",
    )
    _same(lake, "select * from notes order by part, id")
    _tier(lake, "notes")
    _same(lake, "select * from notes order by part, id")
    lake.verified("notes")


def test_a_table_that_is_emptied_or_copied_again(lake: Mirrored) -> None:
    events = _events(lake)
    lake.transaction(
        f"truncate {events}", f"insert into {events} values (1, '2020-01-01', 'a', 1, 1, 'x')"
    )
    _everything(lake, events, "hot")
    _tier(lake, events)
    _everything(lake, events)
    with lake.stack.client() as client:
        client.table_action("resync", f"shop.public.{events}")
    lake.follows(events)
    lake.run(f"insert into {events} values (2, '2020-01-02', 'b', 2, 2, 'y')")
    lake.is_copied(events, 2)
    _everything(lake, events, "hot")
    _tier(lake, events)
    _everything(lake, events)
    lake.verified(events)


def test_columns_that_change(lake: Mirrored) -> None:
    events = _events(lake)
    lake.run(f"alter table {events} add extra text")
    lake.run(f"update {events} set extra = 'set' where id in (1, 990)")
    _settled(lake, events)
    lake.run(f"alter table {events} rename kind to sort", f"alter table {events} drop column small")
    _settled(lake, events)
    lake.run(f"update {events} set sort = 'renamed' where id in (2, 991)")
    _settled(lake, events)
    _tier(lake, events)
    _settled(lake, events)
    lake.run(
        f"alter table {events} add small int8",
        f"update {events} set small = 7 where id in (3, 992)",
    )
    _settled(lake, events)
    _tier(lake, events)
    _settled(lake, events)


def _settled(mirror: Mirrored, events: str) -> None:
    """What the catalog is asked for only now and then is equal soon, with the lake in it or not."""

    def equal() -> bool:
        try:
            with mirror.port("auto") as port, mirror.database.connect() as source:
                sql = f"select * from {events} order by id"
                same = printed(port, sql) == printed(source, sql)
                return same and last_route(port) in {"union", "hot"}
        except psycopg.Error:
            return False

    wait_until(equal, 60, lambda: str(mirror.table(events)))


def test_forced_routes(lake: Mirrored) -> None:
    events = _events(lake)
    with lake.port("hot") as port, pytest.raises(psycopg.errors.FeatureNotSupported, match="lake"):
        port.execute(f"select count(*) from {events}")
    with lake.port("union") as port:
        row = port.execute(f"select count(*) from {events}").fetchone()
        assert row == (1000,)
    with lake.port("lake") as port:
        line = datetime.now(UTC) - timedelta(days=20)
        old = f"select count(*) from {events} where at < '{line}'"
        with lake.database.connect() as source:
            expected = source.execute(old).fetchone()
        assert port.execute(old).fetchone() == expected
        assert last_route(port) == "lake"
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            port.execute(f"select count(*) from {events}")


def test_a_restart_keeps_the_line(lake: Mirrored) -> None:
    events = _events(lake)
    lake.run(f"update {events} set kind = 'patched' where id = 999")
    lake.stack.stop()
    lake.stack.start()
    _settled(lake, events)
    _everything(lake, events)


def test_upkeep_changes_no_row(lake: Mirrored) -> None:
    events = _events(lake)
    for number in range(3):
        lake.run(f"update {events} set amount = {number} where id % 7 = {number}")
        _tier(lake, events)
    with lake.stack.client() as client:
        table = [f"shop.public.{events}"]
        client.wait(client.compact(table)["id"], timeout_seconds=JOB_SECONDS)
        _everything(lake, events)
        client.wait(client.expire(table)["id"], timeout_seconds=JOB_SECONDS)
    lake.run(f"update {events} set kind = 'after' where id = 900")
    _everything(lake, events)
    _tier(lake, events)
    _everything(lake, events)
    lake.verified(events)


def test_what_cannot_be_tiered_says_so(lake: Mirrored) -> None:
    lake.make(
        "keyless",
        "create table keyless (at date not null)",
        "alter table keyless replica identity full",
    )
    with pytest.raises(ServerRefused, match="has no key"):
        _tier(lake, "keyless", older_than="1 day")
    with pytest.raises(ServerRefused, match="not mirrored"):
        _tier(lake, "nothing")
    with pytest.raises(ServerRefused, match="expected a duration"):
        _tier(lake, "keyless", older_than="a while")


def test_the_commands(lake: Mirrored, tmp_path: Path) -> None:
    events = _events(lake)
    document = yaml.safe_load(lake.stack.config_path.read_text())
    document["servers"]["http"]["listen"] = f"127.0.0.1:{lake.stack.http_port}"
    config = tmp_path / "htapkit.yaml"
    config.write_text(yaml.safe_dump(document))

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "htapkit", *arguments, "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    lake.run(f"update {events} set kind = 'again' where id in (980, 981)")
    moved = json.loads(command("tier", events, "--older-than", "5 days", "--json"))["tables"]
    assert sum(row["rows"] for row in moved) in range(96, 148), "five more days, and two patches"
    assert sum(row["folded"] for row in moved) == 2
    _everything(lake, events)
    assert events in command("compact", events)
    assert events in command("expire", events)
    assert events in command("status")
    _everything(lake, events)
