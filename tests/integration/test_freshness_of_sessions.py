"""How fresh an answer is, as each session asked for it: over the port, with a stream that stalls.

A copy that cannot move tells who waited for it from who was lucky. That a session goes on is
proven by what it gets in the end, or by the error that it chose; nothing here is timed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from htapkit.testing.postgres import Connection, PostgresServer
from htapkit.testing.stack import wait_until
from tests.fix_mirror import (
    SETTLE_SECONDS,
    Mirrored,
    fresh_database,
    last_route,
    mirrored,
    stopped_sender,
)

pytestmark = pytest.mark.integration

TOTAL = "SELECT count(*), sum(v) FROM t"
LOOKUP = "SELECT v FROM t WHERE id = 1"
SOON = "200 ms"


@pytest.fixture(scope="module")
def one(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """A table that is followed."""
    with fresh_database(pg) as database:
        database.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        database.execute("INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g")
        with mirrored(database, tmp_path_factory.mktemp("sessions")) as mirror:
            mirror.settles("t")
            yield mirror


def setting(port: Connection, **values: str) -> None:
    for name, value in values.items():
        port.execute(f"SET htapkit.{name} = '{value}'")


def shown(port: Connection, name: str) -> str:
    row = port.execute(f"SHOW htapkit.{name}").fetchone()
    assert row is not None
    return str(row[0])


def lag_ms(port: Connection) -> int:
    """Of the last local answer."""
    found = re.fullmatch(r"(\d+) ms", shown(port, "last_lag"))
    assert found is not None, shown(port, "last_lag")
    return int(found[1])


def total(port: Connection, sql: str = TOTAL) -> tuple[object, ...]:
    row = port.execute(sql).fetchone()
    assert row is not None
    return row


def told(port: Connection) -> list[str]:
    """The routes that EXPLAIN (ROUTE) says are taken."""
    with psycopg.ClientCursor(port) as cursor:
        rows = cursor.execute(f"EXPLAIN (ROUTE) {TOTAL}").fetchall()
    return [str(row[0]) for row in rows if row[1] == "true"]


def answered(port: Connection, route: str) -> tuple[object, ...]:
    """The answer, which is given where EXPLAIN and `last_route` say."""
    assert told(port) == [route]
    found = total(port)
    assert last_route(port) == route
    return found


def refused(port: Connection) -> None:
    """Its session prefers an error to an old answer."""
    assert told(port) == []
    with pytest.raises(psycopg.errors.QueryCanceled, match="did not reach the position"):
        port.execute(TOTAL)


def changed(one: Mirrored) -> tuple[object, ...]:
    """Somebody else commits. The total from then on."""
    one.run("UPDATE t SET v = v + 1 WHERE id = 1")
    return one.database.execute(TOTAL)[0]


def grows_old(port: Connection, more_than_ms: int) -> None:
    """Until the copy that this session reads, however old it is, is older than that."""

    def old() -> bool:
        total(port)
        return lag_ms(port) > more_than_ms

    wait_until(old, SETTLE_SECONDS)


def test_an_age_is_kept_or_the_source_is_asked(one: Mirrored) -> None:
    """With the stream stalled the copy grows old: too old for one session, not for another."""
    with one.stack.connect() as strict, one.stack.connect() as patient:
        setting(patient, freshness="1 hour", on_stale="error")
        setting(strict, freshness="1 s")
        before = answered(strict, "hot")
        setting(strict, wait_timeout=SOON)
        with stopped_sender(one):
            after = changed(one)
            grows_old(patient, 1000)
            assert answered(patient, "hot") == before != after
            assert answered(strict, "source") == after
            setting(strict, on_stale="error")
            refused(strict)
            setting(strict, on_stale="source", route="hot")
            with pytest.raises(psycopg.Error, match="did not reach the position"):
                strict.execute(TOTAL)
            setting(strict, route="auto", freshness="1 hour")
            assert answered(strict, "hot") == before
            setting(strict, freshness="any")
            assert answered(strict, "hot") == before
        setting(strict, freshness="1 s", wait_timeout="120 s", on_stale="error")
        assert answered(strict, "hot") == after


def test_who_waits_on_gets_the_new_answer(one: Mirrored) -> None:
    """`on_stale = 'wait'` goes on beyond the timeout, for as long as it takes."""
    with one.stack.connect() as port, ThreadPoolExecutor(1) as pool:
        setting(port, freshness="strong", wait_timeout="10 ms", on_stale="wait")
        answered(port, "hot")
        with stopped_sender(one):
            after = changed(one)
            waits = pool.submit(total, port)
            with one.stack.connect() as other:
                setting(other, freshness="strong", wait_timeout=SOON)
                assert answered(other, "source") == after
            assert not waits.done()
        assert waits.result(SETTLE_SECONDS) == after
        assert last_route(port) == "hot"


def test_a_position_carries_writes_from_session_to_session(one: Mirrored) -> None:
    with one.stack.connect() as writer, one.stack.connect() as reader:
        writer.execute("INSERT INTO t VALUES (1000, 7)")
        try:
            wrote = answered(writer, "hot")
            setting(reader, position=shown(writer, "last_position"))
            assert shown(reader, "position") == shown(writer, "position") != ""
            assert answered(reader, "hot") == wrote == one.database.execute(TOTAL)[0]
            assert shown(reader, "last_position") >= shown(writer, "last_position")
        finally:
            writer.execute("DELETE FROM t WHERE id = 1000")


def test_a_position_holds_for_another_copy(
    one: Mirrored, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two copies of one source: what a session saw in one, it sees in the other, or not at all."""
    folder = tmp_path_factory.mktemp("second")
    slot = {"slot": f"second_{one.database.name}"}
    with mirrored(one.database, folder, settings=slot) as two:
        two.settles("t")
        with one.stack.connect() as writer, two.stack.connect() as reader:
            setting(reader, on_stale="error", wait_timeout=SOON)
            before = answered(reader, "hot")
            with stopped_sender(two, slot["slot"]):
                writer.execute("UPDATE t SET v = v + 10 WHERE id = 2")
                wrote = answered(writer, "hot")
                assert answered(reader, "hot") == before != wrote, "it was asked for nothing more"
                setting(reader, position=shown(writer, "last_position"))
                refused(reader)
                setting(reader, on_stale="source")
                assert answered(reader, "source") == wrote
            setting(reader, on_stale="error", wait_timeout="120 s")
            assert answered(reader, "hot") == wrote


def test_a_position_that_the_source_has_not_reached(one: Mirrored) -> None:
    """Nothing covers it, however long the wait: neither the newest commit nor a mark behind it."""
    with one.stack.connect() as port:
        setting(port, position="00FFFFFF00000000", on_stale="error", wait_timeout="1 s")
        refused(port)
        setting(port, on_stale="source")
        assert answered(port, "source") == one.database.execute(TOTAL)[0]
        port.execute("RESET htapkit.position")
        setting(port, on_stale="error", wait_timeout="120 s")
        answered(port, "hot")


def look_up(port: Connection, how: str) -> int:
    """Read one row, which the source does; the second time it is known to be such a statement."""
    found = None
    for _ in range(2):
        if how == "simple":
            with psycopg.ClientCursor(port) as cursor:
                found = cursor.execute(LOOKUP).fetchone()
        elif how == "extended":
            found = port.execute(LOOKUP, prepare=False).fetchone()
        elif how == "prepared":
            found = port.execute(LOOKUP, prepare=True).fetchone()
        else:
            with port.transaction():
                found = port.execute(LOOKUP).fetchone()
        assert last_route(port) == "source"
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("how", ["simple", "extended", "prepared", "transaction"])
def test_a_relayed_read_raises_the_floor(one: Mirrored, how: str) -> None:
    """What a session has seen at the source, its next answer of the copy has, too."""
    with one.stack.connect() as port, one.stack.connect() as unaware:
        for session in (port, unaware):
            setting(session, wait_timeout=SOON, on_stale="error")
            before = answered(session, "hot")
        seen = look_up(port, how)
        setting(port, wait_timeout="120 s")
        answered(port, "hot")
        setting(port, wait_timeout=SOON)
        with stopped_sender(one):
            after = changed(one)
            assert answered(port, "hot") == before, "it has not seen the commit"
            assert look_up(port, how) == seen + 1
            refused(port)
            assert answered(unaware, "hot") == before != after
        setting(port, wait_timeout="120 s")
        assert answered(port, "hot") == after


def test_what_is_told_of_the_last_answer(one: Mirrored) -> None:
    """A route always; a position and a lag of the copy's only, and the lag is one that can be."""
    with one.stack.connect() as port:
        assert [shown(port, f"last_{name}") for name in ("route", "position", "lag")] == [
            "",
            "",
            "",
        ]
        setting(port, freshness="strong")
        for _ in range(5):
            answered(port, "hot")
            assert lag_ms(port) >= 0
            assert shown(port, "last_position") == shown(port, "position") != ""
        look_up(port, "simple")
        assert [shown(port, f"last_{name}") for name in ("route", "position", "lag")] == [
            "source", "", "",
        ]  # fmt: skip
