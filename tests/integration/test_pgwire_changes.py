"""Tables and time zones that are not what a statement was planned on.

The answer is right all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import psycopg
import pytest

from htapkit.serve.pgwire import PgwireServer
from htapkit.serve.pgwire.zone_editions import computing_answer, computing_question
from htapkit.serve.pgwire.zone_offsets import zone_answer, zone_question
from htapkit.testing.postgres import Database
from htapkit.testing.stack import wait_until
from tests.fix_stack import StackStarter
from tests.integration.pgwire_fakes import FakeSource, serving

pytestmark = pytest.mark.integration
Port = tuple[PgwireServer, FakeSource]
ZONES = [
    "UTC",
    "Asia/Tokyo",
    "Asia/Seoul",
    "America/New_York",
    "Europe/Berlin",
    "Europe/London",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Antarctica/Troll",
]


@pytest.fixture
def port(database: Database) -> Iterator[Port]:
    with serving(database.dsn) as made:
        yield made


def connect(port: Port, *, autocommit: bool = True) -> psycopg.Connection:
    url = f"postgresql://postgres@127.0.0.1:{port[0].port}/shop"
    return psycopg.connect(url, autocommit=autocommit)


def route(connection: psycopg.Connection) -> str:
    row = connection.execute("show htapkit.last_route").fetchone()
    assert row is not None
    return str(row[0])


def test_editions_of_time_zones_are_compared(database: Database) -> None:
    answers = set()
    with database.connect() as c:
        for name in ZONES:
            c.execute(f"set timezone = '{name}'")
            zone = ZoneInfo(name)
            assert c.execute(zone_question(zone).encode()).fetchone() == (zone_answer(zone),)
            answers.add(zone_answer(zone))
        c.execute("set timezone = 'Asia/Tokyo'")
        seoul = ZoneInfo("Asia/Seoul")
        assert c.execute(zone_question(seoul).encode()).fetchone() != (zone_answer(seoul),)
    assert len(answers) == len(ZONES)


def test_the_source_and_duckdb_are_compared_in_what_they_compute(database: Database) -> None:
    berlin, tokyo = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Tokyo")
    with database.connect() as c:
        for zone in (berlin, tokyo):
            assert c.execute(computing_question(zone).encode()).fetchone() == (
                computing_answer(zone),
            )
        told = computing_question(berlin).replace("'Europe/Berlin'", "'Europe/Warsaw'")
        assert c.execute(told.encode()).fetchone() != (computing_answer(berlin),)


@pytest.mark.parametrize("autocommit", [True, False])
def test_nothing_is_computed_in_a_zone_of_another_edition(
    port: Port, monkeypatch: pytest.MonkeyPatch, autocommit: bool
) -> None:
    tokyo = "/*hot*/ /*zone Asia/Tokyo*/ select 1 as x"
    berlin = "/*hot*/ /*zone Europe/Berlin*/ select 1 as x"
    nowhere = "/*hot*/ /*zone Not/Existing*/ select 1 as x"
    with connect(port) as c:
        c.execute(tokyo)
        assert route(c) == "hot"
    changed = "htapkit.serve.pgwire.questions.computing_answer"
    monkeypatch.setattr(changed, lambda _: "of another edition")
    with connect(port, autocommit=autocommit) as c:
        c.execute(berlin)
        assert route(c) == "source"
        c.execute(nowhere)
        assert route(c) == "source"
        c.execute("/*hot*/ select 1 as x")
        assert route(c) == "hot"


@pytest.mark.parametrize("autocommit", [True, False])
def test_nothing_is_printed_in_a_zone_of_another_edition(
    port: Port, monkeypatch: pytest.MonkeyPatch, autocommit: bool
) -> None:
    monkeypatch.setattr("htapkit.serve.pgwire.questions.zone_answer", lambda _zone: "another")
    text = "/*hot*/ select timestamptz '2024-07-01 12:00:00+00' as t"
    with connect(port, autocommit=autocommit) as c:
        c.execute(text)
        assert route(c) == "hot"
        c.execute("set timezone = 'Asia/Tokyo'")
        row = c.execute(text).fetchone()
        assert row is not None
        assert row[0].isoformat() == "2024-07-01T21:00:00+09:00"
        assert route(c) == "source"
        c.execute(text, binary=True)
        assert route(c) == "hot"
        c.execute("/*hot*/ select 1 as x")
        assert route(c) == "hot"


def test_the_source_is_asked_once_for_each_zone(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(zone: ZoneInfo) -> str:
        asked.append(zone.key)
        return zone_answer(zone)

    monkeypatch.setattr("htapkit.serve.pgwire.questions.zone_answer", counted)
    text = "/*hot*/ select timestamptz '2024-07-01 12:00:00+00' as t"
    for _ in range(2):
        with connect(port) as c:
            for zone in ("Asia/Tokyo", "Europe/Berlin"):
                c.execute(f"set timezone = '{zone}'")
                c.execute(text)
                assert route(c) == "hot"
    assert asked == ["Asia/Tokyo", "Europe/Berlin"]


@pytest.mark.parametrize("prepare", [False, True])
def test_a_changed_catalog_is_planned_on_again(port: Port, prepare: bool) -> None:
    fake, changes = port[1], iter([True, False])

    def change() -> None:
        fake.version += next(changes)

    with connect(port) as c:
        fake.before_read = change
        assert c.execute("/*hot*/ select 5 as x", prepare=prepare).fetchone() == (5,)
        assert route(c) == "hot"
        assert fake.reads == 1
        changes = iter([True, True])
        assert c.execute("/*hot*/ select 5 as x", prepare=prepare).fetchone() == (5,)
        assert route(c) == "source"
        assert fake.reads == 1


def test_the_client_gets_the_types_that_it_was_told(port: Port, database: Database) -> None:
    database.execute("create table t as select 7 as a")
    text = "/*hot*/ select a from t"
    with connect(port) as c:
        assert c.execute(text, prepare=True, binary=True).fetchone() == (7,)
        assert route(c) == "hot"
    database.execute("alter table t alter a type bigint")
    with connect(port) as c:
        # Planned on the column as it was, it has another type; planned anew, it has this one.
        for again, expected in ((text, "source"), (text, "source"), (f"{text} ", "hot")):
            cursor = c.execute(again, prepare=True, binary=True)
            assert cursor.description is not None
            assert cursor.description[0].type_code == 20
            assert cursor.fetchone() == (7,)
            assert route(c) == expected


def test_after_ddl_the_copy_must_have_looked_at_the_tables(port: Port) -> None:
    fake = port[1]
    fake.looked_at = time.monotonic()
    with connect(port) as c:
        c.execute("create table t as select 1 as a")
        c.execute("/*hot*/ select a from t")
        assert route(c) == "source"
        fake.looked_at = time.monotonic()
        c.execute("/*hot*/ select a from t")
        assert route(c) == "hot"
        c.execute("insert into t values (2)")
        c.execute("/*hot*/ select a from t")
        assert route(c) == "hot"
        with c.transaction():
            c.execute("alter table t add b int")
        c.execute("/*hot*/ select a from t")
        assert route(c) == "source"


def test_a_session_sees_its_own_ddl(database: Database, start_stack: StackStarter) -> None:
    database.execute("create table t (id int primary key, v int)")
    database.execute("insert into t select g, g from generate_series(1, 2000) g")
    stack = start_stack(database, configuration={"watch_interval": "5 s"})
    routes = []
    with stack.connect() as c:
        for number in range(1, 5):
            c.execute("alter table t alter v type int using v + 1")
            total = sum(range(1, 2001)) + 2000 * number
            assert c.execute("select sum(v), count(*) from t").fetchone() == (total, 2000)
            routes.append(route(c))
        c.execute("drop table t")
        c.execute("create table t (id int primary key, v text)")
        c.execute("insert into t select g, 'x' from generate_series(1, 50) g")

        def hot() -> bool:
            assert c.execute("select count(*), max(id) from t").fetchone() == (50, 50)
            return route(c) == "hot"

        wait_until(hot, 60, stack.log_end)
        assert hot()
    assert "source" in routes


def test_changes_of_type_under_load_never_give_wrong_rows(
    database: Database, start_stack: StackStarter
) -> None:
    database.execute("create table t (id int primary key, v int)")
    database.execute("insert into t select g, 3 from generate_series(1, 2000) g")
    stack = start_stack(database)
    routes: list[str] = []
    wrong: list[object] = []
    ended = threading.Event()

    def ask(prepare: bool) -> None:
        while not ended.is_set():
            try:
                with stack.connect() as c:
                    while not ended.is_set():
                        row = c.execute(
                            "select max(v), sum(v) from t", prepare=prepare, binary=True
                        )
                        if (found := row.fetchone()) != (3, 6000):
                            wrong.append(found)
                        routes.append(route(c))
            except psycopg.Error as error:
                # As PostgreSQL. psycopg does not notice a second DEALLOCATE ALL: connect anew.
                if "cached plan must not change result type" not in str(error):
                    wrong.append(error)

    def answered(more: int) -> None:
        enough = len(routes) + more
        wait_until(lambda: len(routes) >= enough, 60, stack.log_end)

    threads = [threading.Thread(target=ask, args=(prepare,)) for prepare in (False, True)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: "hot" in routes, 60, stack.log_end)
        for number in range(10):
            type_ = ("bigint", "int", "smallint")[number % 3]
            database.execute(f"alter table t alter v type {type_}")
            answered(100)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]
