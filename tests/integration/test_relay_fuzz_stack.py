"""Random protocol batches through a whole htapkit.

Every message must be as PostgreSQL itself sends it.

The planner, the mirror and the hot store are the real ones, so the answers that are compared here
were read from the copy; how many were is counted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import Stack
from tests.fix_mirror import hot_answers
from tests.integration.pgwire_raw import Batches, compare

pytestmark = pytest.mark.integration

SETUP = """
create table item (
    id int primary key, name text, price numeric(10, 2), qty bigint, at timestamptz, day date,
    ok bool, ratio float8, code varchar(8), small smallint, note text, made timestamp);
insert into item
select g, 'näme ' || g, g * 1.37, g * 1000000007::bigint, timestamptz '2024-02-28 23:30:00+00'
           + g * interval '7 hours 13.25 seconds', date '1999-12-30' + g, g % 3 = 0,
       g / 7.0::float8,
       'c' || g % 5, g % 100, case when g % 4 > 0 then repeat('n', g % 9) end,
       timestamp '1969-12-31 23:59:59.5' + g * interval '1 day'
  from generate_series(1, 400) g;
insert into item (id) values (1000), (1001);
create table fz (id int primary key, v text);
"""
RESET = "truncate fz; insert into fz select g, 'q' from generate_series(1, 3) g"
READS = [
    b"select count(*) from item",
    b"select * from item order by id",
    b"select id, name, price, at from item order by id desc limit 5",
    b"select id, day, made, ratio, small, note from item where id > 390 order by id",
    b"select ok, count(*), sum(price) as s, min(day), max(at) from item group by ok order by ok",
    b"select name from item where id = 7",
    b"select name, at from item where id = $1",
    b"select code, avg(price) as a, sum(qty) as q from item group by code order by sum(id)",
    b"select count(*), sum(qty), max(name) from item where id <= $1::int",
    b"select count(*) as n, min(at) as a from item where qty > $1",
    b"select sum(price * small) as x from item where ok and small < $1",
    b"select sum(10 / (id - 7)) from item where id < 20",
    b"select 10 / (id - $1::int) as x from item order by id limit 9",
    b"select 1 / (count(*) - count(*)) as x from item",
    b"select nope from item",
    b"select a.id, b.id as other from item a, item b where b.id <= 9 order by a.id, b.id",
    b"select a.id as x from item a join item b on b.id <= 45 order by a.id, b.id",
    b"select count(*), min(v), max(id) from fz",
    b"select id, v from fz order by id",
    b"select sum(id) as s from fz where v = $1",
    b"select to_char(sum(price), $$999,999.00$$) as t from item",
    b"select now() is not null as x, count(*) from item",
    b"copy (select id, name, price, note from item order by id) to stdout csv header",
    b"copy (select count(*), sum(qty), max(name) from item) to stdout (format binary)",
    b"copy (select 10 / (id - 7) as x from item order by id) to stdout",
]
OTHERS = [
    b"show htapkit_is_no_setting.x",
    b"insert into fz values (11, $$a$$)",
    b"insert into fz values ($1, $$b$$) returning id, v",
    b"update fz set v = v || $$z$$ where id = 2",
    b"delete from fz where id = 11",
    b"select 1 / 0",
    b"selekt",
    b"",
    b"begin",
    b"commit",
    b"copy fz from stdin",
    b"set timezone = 'America/New_York'",
]
STATEMENTS = READS * 3 + OTHERS
QUERIES = [
    *[text for text in STATEMENTS if b"$1" not in text],
    b"rollback",
    b"rollback",
    b"begin isolation level repeatable read",
    b"select count(*) from item; select 2",
    b"insert into fz values (13, $$c$$); select 1 / 0",
    b"set timezone = 'Asia/Tokyo'",
    b"set timezone = 'UTC'",
    b"set datestyle = 'German'",
    b"set search_path = nowhere, public",
    b"reset all",
    b"deallocate all",
    b"discard all",
    b"copy (select count(*) from item) to stdout",
    b"savepoint a",
    b"rollback to a",
    b"create temp table fz (id int, v text)",
    b"drop table if exists pg_temp.fz",
    b"do $$begin raise notice $x$hi$x$; end$$",
]


@dataclass(frozen=True)
class Place:
    """A database, its mirror behind a whole htapkit, and another database with the same rows."""

    server: PostgresServer
    reference: str
    mirrored: str
    stack: Stack

    def reset(self) -> None:
        """The table that batches change is as at the beginning; the copy has it, too."""
        for name in (self.reference, self.mirrored):
            with self.server.connect(name) as connection:
                connection.execute(RESET)
        with self.stack.connect() as connection:
            connection.execute("set htapkit.freshness = 'strong'")
            assert connection.execute("select count(*), max(id) from fz").fetchone() == (3, 3)

    def hot_answers(self) -> int:
        """How many answers came from the copy since it started."""
        return hot_answers(self.stack.http_port)


@pytest.fixture(scope="module", params=[16, 18], ids=["pg16", "pg18"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with PostgresServer(request.param) as server:
        reference, mirrored = Database(server, "reference"), Database(server, "shop")
        for database in (reference, mirrored):
            database.execute(SETUP)
        folder: Path = tmp_path_factory.mktemp("fuzz")
        with Stack(folder, {"shop": {"dsn": mirrored.dsn, "tables": ["public.*"]}}) as stack:
            stack.wait_ready()
            yield Place(server, reference.name, mirrored.name, stack)


def check(place: Place, seed: int, batches: int) -> None:
    before = place.hot_answers()
    made = Batches(random.Random(seed), STATEMENTS, QUERIES)
    ports = (place.server.port, place.reference), (place.stack.port, "shop")
    count, differences = compare(*ports, batches, made, place.reset, session_batches=10)
    hot = place.hot_answers() - before
    print(f"{count} messages compared, {hot} answers from the copy")
    assert not differences, f"seed {seed}\n" + "\n".join(differences)
    assert count > batches
    assert hot > batches // 4, f"only {hot} answers came from the copy: the test says little"


@pytest.mark.parametrize("seed", range(1, 4))
def test_every_message_is_the_sources(place: Place, seed: int) -> None:
    check(place, seed, 300)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 130))
def test_every_message_is_the_sources_at_length(place: Place, seed: int) -> None:
    check(place, seed, 400)


def test_the_statements_are_answered_by_the_copy(place: Place) -> None:
    """Those that the fuzzer counts on."""
    with place.stack.connect() as connection:
        routes = {}
        for text in READS[:5]:
            connection.execute(text)
            row = connection.execute("show htapkit.last_route").fetchone()
            assert row is not None
            routes[text] = row[0]
    assert set(routes.values()) == {"hot"}, routes
