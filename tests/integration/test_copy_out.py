"""COPY (SELECT …) TO STDOUT answered by the copy, byte for byte and message for message.

PostgreSQL is the oracle. Random rows print their seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import psycopg
import pytest
from psycopg import pq

from htapkit.testing.postgres import Connection
from tests import typed_rows
from tests.fix_mirror import Mirrored, hot_answers, last_route
from tests.integration.pgwire_raw import RawClient, message

pytestmark = pytest.mark.integration

AWKWARD = (
    "",
    "\\",
    "\\.",
    "\\N",
    "NULL",
    '"',
    'say "x"',
    ",",
    ";|",
    "\t",
    "a\nb",
    "a\r",
    "\b\v\f\x01\x7f",
    " x ",
    "ünï",
    "x" * 3000,
    None,
)
TEXTS = (
    "",
    "WITH (FORMAT text, HEADER)",
    "(FORMAT csv)",
    "(FORMAT 'csv', HEADER true, DELIMITER ';')",
    "WITH (FORMAT csv, NULL 'NULL', HEADER off)",
    "(DELIMITER '|', NULL '')",
    "(DELIMITER E'\\t')",
    "csv header",
    "WITH CSV DELIMITER AS '|' NULL AS 'NULL'",
)
BINARY = ("(FORMAT binary)", "WITH BINARY")
ELSEWHERE = (
    "(FORMAT csv, QUOTE '''')",
    "(FORMAT csv, FORCE_QUOTE *)",
    "(DELIMITER 'ü')",
    "(DELIMITER 'a')",
    "(NULL E'a\\nb')",
    "(ENCODING 'LATIN1')",
    "(FORMAT csv, FORMAT csv)",
    "(FORMAT binary, HEADER)",
    "(FORMAT csv, HEADER maybe)",
    "(FORMAT xml)",
    "(DELIMITER '')",
    "(NULL U&'\\0041')",
    "(FORMAT csv, NULL $x$-$x$)",
    '("format" csv)',
    "(FORMAT 'CSV')",
    "(NULL)",
    "CSV NULL",
)
SAID_IN_TEXT = ("money", "regclass")


@pytest.fixture(scope="module")
def notes(mirror: Mirrored) -> str:
    """Texts that no format takes as they are, among many that every format does."""
    mirror.run('create table notes (id int primary key, "a,b" text, "say ""x""" text)')
    rng = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    with mirror.database.connect() as connection, connection.transaction():
        for number in range(1500):
            one, two = rng.choice(AWKWARD), rng.choice(["plain", "", None, rng.choice(AWKWARD)])
            connection.execute("insert into notes values (%s, %s, %s)", [number, one, two])
    mirror.follows("notes")
    return "notes"


@pytest.fixture
def ends(mirror: Mirrored, notes: str) -> Iterator[tuple[RawClient, RawClient]]:
    """(the port, PostgreSQL), message by message."""
    server = mirror.database.server
    wait = "-c htapkit.freshness=strong -c htapkit.wait_timeout=60s"
    clients = (
        RawClient(mirror.stack.port, "shop", options=wait),
        RawClient(server.port, mirror.database.name),
    )
    yield clients
    for client in clients:
        client.close()


def route(client: RawClient) -> str:
    """Where its last statement went."""
    row = next(each for each in client.query("show htapkit.last_route") if each[:1] == b"D")
    return row[7:].decode()


def copied(connection: Connection, sql: str, *, extended: bool) -> list[bytes] | str:
    """The CopyData of a statement, or its SQLSTATE."""
    pgconn, text = connection.pgconn, sql.encode()
    result = pgconn.exec_params(text, None, result_format=1) if extended else pgconn.exec_(text)
    if result.status != pq.ExecStatus.COPY_OUT:
        return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    found: list[bytes] = []
    while True:
        size, data = pgconn.get_copy_data(0)
        if size < 0:
            break
        found.append(bytes(data))
    end = pgconn.get_result()
    assert end is not None
    while pgconn.get_result() is not None:
        pass
    if end.status != pq.ExecStatus.COMMAND_OK:
        return (end.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    return [*found, end.command_status or b""]


@pytest.mark.parametrize("options", TEXTS + BINARY)
@pytest.mark.parametrize(
    "query",
    [
        'select id, "a,b", "say ""x""" from notes order by id',
        'select "a,b" from notes order by id',
        'select "say ""x""", id from notes where id < 12 order by id',
        'select id, "a,b" as t from notes where id < 0',
        'select "a,b" as t, count(*) from notes group by 1 order by 1',
        "select count(*) as n from notes",
    ],
)
def test_every_message_is_postgresqls(
    ends: tuple[RawClient, RawClient], query: str, options: str
) -> None:
    ours, theirs = ends
    sql = f"COPY ({query}) TO STDOUT {options}"
    assert ours.query(sql) == theirs.query(sql)
    assert route(ours) == "hot"
    parsed = message(b"P", b"\0" + sql.encode() + b"\0\0\0")
    bound = message(b"B", b"\0\0\0\0\0\0\0\0") + message(b"D", b"P\0")
    batch = parsed + bound + message(b"E", b"\0\0\0\0\2") + message(b"S")
    answers = []
    for client in ends:
        client.socket.sendall(batch)
        answers.append(client.until(1))
    assert answers[0] == answers[1]
    assert route(ours) == "hot"


@pytest.mark.parametrize("options", ELSEWHERE)
def test_other_options_are_the_sources(ends: tuple[RawClient, RawClient], options: str) -> None:
    ours, theirs = ends
    sql = f'COPY (select id, "a,b" from notes order by id) TO STDOUT {options}'
    assert ours.query(sql) == theirs.query(sql)
    assert route(ours) == "source"


@pytest.mark.parametrize(
    "sql",
    [
        "copy notes to stdout",
        "copy (select count(*) from notes) to program 'cat'",
        "copy (insert into notes select -1 where false returning id) to stdout",
        "copy (delete from notes where id = -1 returning id) to stdout",
        "copy (show timezone) to stdout",
        "copy (select nothing from notes) to stdout",
        "copy (select 1) to stdout; select 2",
        "copy (select count(*) from notes where id = $1) to stdout",
        "copy (select count(*) from notes to stdout",
        "copy (explain select 1) to stdout",
        "copy () to stdout",
        "copy (select count(*) from notes) from stdin",
        "copyx (select count(*) from notes) to stdout",
        "copy (select count(*) from notes) to 'stdout'",
        'copy (select count(*) from notes) "to" stdout',
        'copy (select count(*) from notes) to "stdout"',
    ],
)
def test_what_is_no_copy_of_rows_is_the_sources(
    ends: tuple[RawClient, RawClient], sql: str
) -> None:
    for start in ("select 1", "begin"):
        answers = []
        for client in ends:
            client.query(start)
            answers.append(client.query(sql))
            client.query("rollback")
        assert answers[0] == answers[1]


def test_a_portal_is_copied_once(ends: tuple[RawClient, RawClient]) -> None:
    sql = b"copy (select count(*) from notes) to stdout"
    batch = message(b"P", b"\0" + sql + b"\0\0\0") + message(b"B", b"\0\0\0\0\0\0\0\0")
    batch += message(b"E", b"\0\0\0\0\0") * 2 + message(b"S")
    codes = []
    for client in ends:
        client.query("begin")
        client.socket.sendall(batch)
        found = client.until(1)
        codes.append([part for part in found[-2].split(b"\0") if part[:1] == b"C"])
        assert [each[:1] for each in found[:6]] == [b"1", b"2", b"H", b"d", b"c", b"C"]
        client.query("rollback")
    assert codes[0] == codes[1] == [[b"C55000"]][0]


@pytest.fixture(scope="module")
def typed(mirror: Mirrored) -> str:
    """A table with a column of each type."""
    rng = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    mirror.run(typed_rows.SETUP, typed_rows.create_table("typed"))
    holes = ", ".join(f"%s::text::{type_}" for type_ in typed_rows.TYPES)
    with mirror.database.connect() as connection, connection.transaction():
        for number in range(120):
            values = typed_rows.row(rng, number)
            connection.execute(f"insert into typed values (%s, {holes})", values)
    mirror.follows("typed")
    return "typed"


def test_every_type(mirror: Mirrored, typed: str) -> None:
    local = set()
    with mirror.port("auto") as port, mirror.database.connect() as source:
        for number, type_ in enumerate(typed_rows.TYPES):
            for options in ("", "csv", "binary"):
                sql = f"copy (select id, c{number} from {typed} order by id) to stdout {options}"
                extended = options == "binary"
                ours = copied(port, sql, extended=extended)
                assert ours == copied(source, sql, extended=extended), (type_, options)
                local |= {(type_, options)} if last_route(port) == "hot" else set()
    expected = [t for t in typed_rows.TYPES if not t.startswith(typed_rows.PRINTED_THERE)]
    assert {type_ for type_, options in local if not options} == set(expected)
    assert {type_ for type_, options in local if options == "csv"} == set(expected)
    plain = {"bool", "int2", "int4", "int8", "float8", "text", "bytea", "uuid", "date"}
    assert plain | {"numeric(12,2)", "timestamptz"} <= {t for t, o in local if o == "binary"}


def test_adbc_reads_the_copy(mirror: Mirrored, notes: str) -> None:
    """Apache Arrow's driver wraps each query in COPY."""
    sql = 'select id, "a,b" from notes order by id'
    there = mirror.database.dsn
    here = f"postgresql://postgres@127.0.0.1:{mirror.stack.port}/shop"
    with (
        adbc.connect(here, autocommit=True) as ours,
        adbc.connect(there) as theirs,
        ours.cursor() as cursor,
        theirs.cursor() as oracle,
    ):
        cursor.execute("set htapkit.freshness = 'strong'")
        before = hot_answers(mirror.stack.http_port)
        texts = (sql, "select sum(id), count(*) from notes", f"{sql} limit 0")
        for text in texts:
            cursor.execute(text)
            oracle.execute(text)
            assert cursor.fetch_arrow_table().equals(oracle.fetch_arrow_table())
        assert hot_answers(mirror.stack.http_port) - before == len(texts)


def test_in_a_transaction_and_with_a_forced_route(mirror: Mirrored, notes: str) -> None:
    sql = "copy (select count(*), max(id) from notes) to stdout"
    with mirror.port("hot") as port:
        with port.transaction():
            assert copied(port, sql, extended=False) == [b"1500\t1499\n", b"COPY 1"]
            assert last_route(port) == "hot"
        assert copied(port, "copy (select random() from notes) to stdout", extended=True) == "0A000"
        assert copied(port, "copy notes to stdout", extended=False) != "0A000"
        port.execute("set htapkit.route = 'source'")
        assert copied(port, sql, extended=True) == [b"1500\t1499\n", b"COPY 1"]
        assert last_route(port) == "source"


def test_an_error_behind_the_first_row(mirror: Mirrored, notes: str) -> None:
    """The copy ends with PostgreSQL's error, and the session goes on."""
    sql = "copy (select 1 / (id - 1499) from notes order by id) to stdout"
    with mirror.port("auto") as port, mirror.database.connect() as source:
        assert copied(port, sql, extended=False) == copied(source, sql, extended=False) == "22012"
        assert port.execute("select count(*) from notes").fetchone() == (1500,)


def test_explain_tells_the_route_of_what_is_copied(mirror: Mirrored, notes: str) -> None:
    with mirror.port("auto") as port:
        text = "explain (route) copy (select count(*) from notes) to stdout"
        rows: list[tuple[Any, ...]] = port.execute(text).fetchall()
        assert next(row[0] for row in rows if row[1] == "true") == "hot"


def test_a_driver_that_copies(mirror: Mirrored, notes: str) -> None:
    with mirror.port("hot") as port, port.cursor() as cursor:
        with cursor.copy("copy (select id from notes order by id) to stdout") as rows:
            assert [int(row[0]) for row in rows.rows()] == list(range(1500))
        with (
            pytest.raises(psycopg.errors.FeatureNotSupported),
            cursor.copy("copy (select random() from notes) to stdout") as rows,
        ):
            list(rows)
