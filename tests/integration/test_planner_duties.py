"""What `htapkit/plan/README.md` asks of whoever runs a plan, seen at the port of a whole htapkit.

Each test fails where its duty is dropped: the answer is then another one than the source's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from htapkit.testing.postgres import Connection, Database, PostgresServer
from htapkit.testing.stack import Stack, wait_until
from tests.fix_mirror import last_route

pytestmark = pytest.mark.integration

TABLES = """
CREATE TABLE goods (id int PRIMARY KEY, k int, n numeric(20, 4), v varchar(20), p char(6),
    g float8, at timestamptz, c text COLLATE "C", posix text COLLATE "POSIX", t text);
INSERT INTO goods SELECT i, i % 10, i, 'Ab' || i, 'p' || i % 4,
    CASE WHEN i = 7 THEN '-0' ELSE i::float8 END,
    timestamptz '2024-01-01 00:00+00' + i * interval '1 hour',
    'c' || i % 3, 'c' || i % 4, 'c' || i % 5
    FROM generate_series(1, 300) i;
CREATE TABLE many (id int PRIMARY KEY);
INSERT INTO many SELECT generate_series(1, 200000);
CREATE FUNCTION public.length(varchar) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 42::bigint';
CREATE FUNCTION public.abs(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 43';
CREATE SCHEMA other;
CREATE TABLE other.goods (id int PRIMARY KEY);
"""
MAKES_TEMP = "CREATE TEMP TABLE goods (id int)"
INT4, INT8, FLOAT8, NUMERIC, BPCHAR = 23, 20, 701, 1700, 1042
Result = tuple[str, list[int], list[tuple[bytes | None, ...]]]


@pytest.fixture(scope="module")
def shop(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The tables, which no test changes."""
    database = Database(pg, "planner_duties")
    try:
        database.execute(TABLES)
        yield database
    finally:
        database.drop()


@pytest.fixture(scope="module")
def served(shop: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An htapkit on them."""
    folder: Path = tmp_path_factory.mktemp("duties")
    sources = {"shop": {"dsn": shop.dsn, "tables": ["public.*"]}}
    with Stack(folder, sources, configuration={"watch_interval": "100 ms"}) as stack:
        stack.wait_ready()
        yield stack


@pytest.fixture
def port(served: Stack) -> Iterator[Connection]:
    """A session at the port."""
    with psycopg.connect(served.dsn(), autocommit=True, prepare_threshold=None) as connection:
        yield connection


@pytest.fixture
def source(shop: Database) -> Iterator[Connection]:
    """A session at the source."""
    with shop.connect() as connection:
        yield connection


def answer(
    connection: psycopg.Connection,
    sql: str,
    values: Sequence[bytes | None] | None = None,
    oids: Sequence[int] | None = None,
    formats: Sequence[int] | None = None,
) -> Result:
    """SQLSTATE, type OIDs and the text of rows; without values by the simple protocol."""
    raw = connection.pgconn
    if values is None:
        result = raw.exec_(sql.encode())
    else:
        result = raw.exec_params(sql.encode(), values, oids, formats)
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    width = range(result.nfields) if result.status == pq.ExecStatus.TUPLES_OK else range(0)
    rows = [tuple(result.get_value(r, c) for c in width) for r in range(result.ntuples)]
    return state, [result.ftype(c) for c in width], rows


def planned(port: psycopg.Connection, sql: str) -> str:
    """The route that the planner has chosen."""
    rows = port.execute(f"EXPLAIN (ROUTE) {sql}").fetchall()
    return next(str(row[0]) for row in rows if str(row[1]) in {"true", "t", "True"})


LOCAL_ERRORS = {
    "the copy cannot show which zero": "SELECT min(g) FROM goods WHERE id < 9",
    "PostgreSQL's own words": "SELECT id / (id - 9) FROM goods WHERE id < 20",
}


@pytest.mark.parametrize("sql", LOCAL_ERRORS.values(), ids=LOCAL_ERRORS)
@pytest.mark.parametrize("in_block", [False, True])
@pytest.mark.parametrize("extended", [False, True])
def test_an_error_before_the_first_row_is_relayed(
    port: Connection, source: Connection, sql: str, *, in_block: bool, extended: bool
) -> None:
    assert planned(port, sql) == "hot"
    values: list[bytes | None] | None = [] if extended else None
    if in_block:
        port.execute("BEGIN")
        source.execute("BEGIN")
    assert answer(port, sql, values) == answer(source, sql, values)
    assert port.info.transaction_status == source.info.transaction_status
    for connection in (port, source):
        connection.execute("ROLLBACK")
    answer(port, sql, values)
    assert last_route(port) == "source"


def test_an_error_after_the_first_rows_ends_the_statement_and_not_the_session(
    port: Connection,
) -> None:
    sql = b"SELECT 1000 / (200000 - id) FROM many"
    assert planned(port, sql.decode()) == "hot"
    port.execute("BEGIN")
    raw = port.pgconn
    raw.send_query(sql)
    raw.set_single_row_mode()
    rows, failures = 0, []
    while result := raw.get_result():
        rows += result.status == pq.ExecStatus.SINGLE_TUPLE
        if result.status == pq.ExecStatus.FATAL_ERROR:
            failures.append(result.error_message)
    assert rows > 0
    assert len(failures) == 1
    assert port.info.transaction_status == pq.TransactionStatus.INERROR
    port.execute("ROLLBACK")
    assert port.execute("SELECT count(*) FROM many").fetchone() == (200_000,)


@pytest.mark.parametrize(
    "sql", ["SELECT id, length(v) FROM goods", "SELECT max(length(v)) FROM goods"]
)
def test_types_are_those_that_the_source_describes(
    port: Connection, source: Connection, sql: str
) -> None:
    """A function of the user's own that fits better is only seen in the types."""
    assert planned(port, sql) == "hot"
    theirs = answer(source, sql)
    assert theirs[1][-1] == INT8
    assert sorted(answer(port, sql)[2]) == sorted(theirs[2])


NUMERICS = (
    (b"1.0000000000004", "n < $1 AND n >= 1"),
    (b"0.9999999999999", "n > $1 AND n <= 1"),
    (b"1.000000000000000000000001", "n < $1 AND n >= 1"),
)


def _packed(text: bytes) -> bytes:
    """PostgreSQL's binary form of a positive number: groups of four digits."""
    whole, _, fraction = text.decode().partition(".")
    padded = fraction + "0" * (-len(fraction) % 4)
    groups = [int(whole)] + [int(padded[i : i + 4]) for i in range(0, len(padded), 4)]
    return struct.pack(f"!hhHh{len(groups)}h", len(groups), 0, 0, len(fraction), *groups)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize(("value", "condition"), NUMERICS)
def test_a_numeric_parameter_with_more_digits_is_left_to_the_source(
    port: Connection, source: Connection, value: bytes, condition: str, *, binary: bool
) -> None:
    sql = f"SELECT count(*) FROM goods WHERE {condition}"
    sent = [_packed(value) if binary else value]
    theirs = answer(source, sql, sent, [NUMERIC], [int(binary)])
    assert theirs[2] == [(b"1",)]
    assert answer(port, sql, sent, [NUMERIC], [int(binary)]) == theirs


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_a_numeric_parameter_that_fits_is_bound_exactly(
    port: Connection, source: Connection, *, binary: bool
) -> None:
    sql = "SELECT count(*) FROM goods WHERE n < $1 AND n >= 1"
    sent = [_packed(b"1.000000000001") if binary else b"1.000000000001"]
    theirs = answer(source, sql, sent, [NUMERIC], [int(binary)])
    assert theirs[2] == [(b"1",)]
    assert answer(port, sql, sent, [NUMERIC], [int(binary)]) == theirs
    assert last_route(port) == "hot"


UNTYPED = {
    "int4": ("SELECT count(*) FROM goods WHERE k = $1", b"5"),
    "not an int4": ("SELECT count(*) FROM goods WHERE k = $1", b"5.5"),
    "char(n) without its blanks": ("SELECT count(*) FROM goods WHERE p = $1", b"p1"),
    "char(n) with blanks": ("SELECT count(*) FROM goods WHERE p = $1", b"p1   "),
    "timestamptz in the session's zone": (
        "SELECT count(*) FROM goods WHERE at < $1",
        b"2024-01-02",
    ),
    "varchar that looks like a number": ("SELECT count(*) FROM goods WHERE v > $1", b"12"),
    "text that is shown": ("SELECT $1, count(*) FROM goods", b"5"),
    "a sum with a parameter": ("SELECT sum(k + $1) FROM goods", b"5"),
    "no type at all": ("SELECT count(*) FROM goods WHERE $1 IS NULL", b"5"),
}


@pytest.mark.parametrize(("sql", "value"), UNTYPED.values(), ids=UNTYPED)
def test_a_parameter_without_a_type_has_the_one_that_the_source_finds(
    port: Connection, source: Connection, sql: str, value: bytes
) -> None:
    for connection in (port, source):
        connection.execute("SET timezone = 'Asia/Tokyo'")
    theirs = answer(source, sql, [value], [0])
    for _ in range(2):  # the second time, what the source said is known
        assert answer(port, sql, [value], [0]) == theirs


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("statement", ["RESET ALL", "DISCARD ALL"])
def test_our_options_are_reset_with_all_others(
    port: Connection, statement: str, *, extended: bool
) -> None:
    """What a pool sends between two clients."""
    values: list[bytes | None] | None = [] if extended else None
    port.execute("SET htapkit.route = 'source'")
    port.execute("SET htapkit.freshness = 'any'")
    assert answer(port, statement, values)[0] == ""
    assert answer(port, "SHOW htapkit.freshness")[2] == [(b"session",)]
    answer(port, "SELECT count(*) FROM many")
    assert last_route(port) == "hot"


TEMPORARY: dict[str, Sequence[str]] = {
    "created": (MAKES_TEMP,),
    "created in a transaction": ("BEGIN", MAKES_TEMP),
    "created and committed": ("BEGIN", MAKES_TEMP, "COMMIT"),
    "rolled back": ("BEGIN", MAKES_TEMP, "ROLLBACK"),
    "a view": ("CREATE TEMP VIEW goods AS SELECT 1 AS id",),
    "by a block": (f"DO 'BEGIN {MAKES_TEMP}; END'",),
    "with another statement": (f"SELECT 1; {MAKES_TEMP}",),
    "SELECT INTO": ("SELECT * INTO TEMP goods FROM many WHERE id < 4",),
    "behind public": ("SET search_path = public, pg_temp", MAKES_TEMP),
    "dropped": (MAKES_TEMP, "DROP TABLE pg_temp.goods"),
    "discarded": (MAKES_TEMP, "DISCARD TEMP"),
    "of another name": ("CREATE TEMP TABLE elsewhere (id int)",),
}


def look_again(served: Stack) -> None:
    """Wait until the copy has looked at the tables: until then, DDL alone keeps a session away."""
    with served.connect() as another:
        another.execute("CREATE TABLE other.passing (id int)")
        another.execute("DROP TABLE other.passing")

        def hot() -> bool:
            another.execute("SELECT count(*) FROM many")
            return last_route(another) == "hot"

        wait_until(hot, 60, served.log_end)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("statements", TEMPORARY.values(), ids=TEMPORARY)
def test_a_temporary_table_comes_before_the_mirrored_one(
    served: Stack,
    port: Connection,
    source: Connection,
    statements: Sequence[str],
    *,
    extended: bool,
) -> None:
    sql = "SELECT count(*) FROM goods"
    values: list[bytes | None] | None = [] if extended else None
    assert answer(port, sql, values)[2] == [(b"300",)]
    assert last_route(port) == "hot"
    for statement in statements:
        assert answer(port, statement)[0] == answer(source, statement)[0] == ""
    assert answer(port, sql, values) == answer(source, sql, values)
    look_again(served)
    assert answer(port, sql, values) == answer(source, sql, values)


GONE: dict[str, Sequence[str]] = {
    "rolled back": ("BEGIN", MAKES_TEMP, "ROLLBACK"),
    "dropped": (MAKES_TEMP, "DROP TABLE pg_temp.goods"),
    "discarded": (MAKES_TEMP, "DISCARD TEMP"),
    "with all else": (MAKES_TEMP, "CREATE TEMP SEQUENCE passing", "DISCARD ALL"),
    "at the end of its transaction": (f"BEGIN; {MAKES_TEMP} ON COMMIT DROP; COMMIT",),
}


@pytest.mark.parametrize("statements", GONE.values(), ids=GONE)
def test_without_its_temporary_tables_a_session_is_answered_here_again(
    served: Stack, port: Connection, source: Connection, statements: Sequence[str]
) -> None:
    sql = "SELECT count(*) FROM goods"
    for statement in statements:
        port.execute(statement)

    def hot() -> bool:
        assert answer(port, sql) == answer(source, sql)
        return last_route(port) == "hot"

    wait_until(hot, 60, served.log_end)
    port.execute(MAKES_TEMP)
    assert answer(port, sql)[2] == [(b"0",)]


def test_a_session_after_the_start_waits_for_no_look_at_the_tables(
    database: Database, tmp_path: Path
) -> None:
    database.execute("CREATE TABLE goods (id int PRIMARY KEY)")
    settings = {"dsn": database.dsn, "tables": ["public.*"], "slot": "htapkit_starts"}
    configuration = {"watch_interval": "1 hour"}
    with Stack(tmp_path, {"shop": settings}, configuration=configuration) as stack:
        stack.wait_ready()
        with stack.connect() as port:
            port.execute("SET htapkit.route = 'hot'")
            assert port.execute("SELECT count(*) FROM goods").fetchone() == (0,)


PATHS = ("other, public", "public, other", "nowhere, public", "other", "''", "pg_catalog, public")


@pytest.mark.parametrize("path", PATHS)
def test_names_are_looked_up_in_the_sessions_path(
    port: Connection, source: Connection, path: str
) -> None:
    for sql in ("SELECT count(*) FROM goods", "SELECT sum(abs(-id)) FROM goods"):
        answer(port, sql)
        for connection in (port, source):
            connection.execute(f"SET search_path = {path}")
        assert answer(port, sql) == answer(source, sql)


def test_functions_are_looked_up_before_pg_catalog_where_the_path_says_so(
    port: Connection, source: Connection
) -> None:
    for connection in (port, source):
        connection.execute("SET search_path = public, pg_catalog")
    sql = "SELECT sum(abs(-id)) FROM goods"
    assert answer(source, sql)[2] == [(b"12900",)]
    assert answer(port, sql) == answer(source, sql)


def test_statements_of_ours_outlive_the_end_of_another_one(port: Connection) -> None:
    port.pgconn.prepare(b"shown", b"SHOW htapkit.route")
    port.pgconn.prepare(b"another", b"SELECT 1")
    port.execute("DEALLOCATE another")
    assert port.pgconn.exec_prepared(b"shown", None).get_value(0, 0) == b"auto"


@pytest.mark.parametrize(
    "condition", ["c = posix", "c <> posix", "c || posix = t", "lower(c || posix) IS NULL"]
)
def test_texts_of_two_collations_are_not_compared(
    port: Connection, source: Connection, condition: str
) -> None:
    """The source describes such a statement: it fails only when it runs, and with rows."""
    sql = f"SELECT count(*) FROM goods WHERE {condition}"
    assert answer(source, sql)[0] == "42P22"
    assert answer(port, sql) == answer(source, sql)


def test_a_collation_prevails_over_the_database_s_own(port: Connection, source: Connection) -> None:
    sql = "SELECT count(*) FROM goods WHERE c = t AND posix <> t"
    assert planned(port, sql) == "hot"
    assert answer(port, sql) == answer(source, sql)


def test_ranks_do_not_depend_on_the_last_digits_of_float_sums(port: Connection) -> None:
    assert planned(port, "SELECT k, rank() OVER (ORDER BY sum(g)) FROM goods GROUP BY k") != "hot"


def test_what_a_view_may_do_is_not_known(database: Database, tmp_path: Path) -> None:
    database.execute(TABLES.partition("INSERT INTO many")[0])
    body = f"'BEGIN {MAKES_TEMP}; RETURN 1; END'"
    database.execute(f"CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS {body}")
    database.execute("CREATE VIEW harmless AS SELECT makes() AS made")
    settings = {"dsn": database.dsn, "tables": ["public.*"], "slot": "htapkit_views"}
    with Stack(tmp_path, {"shop": settings}) as stack:
        stack.wait_ready()
        with stack.connect() as port:
            port.execute("SELECT * FROM harmless")
            assert port.execute("SELECT count(*) FROM goods").fetchone() == (0,)
