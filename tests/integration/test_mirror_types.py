"""Every type through the port as PostgreSQL prints it: copied, streamed, in text and binary.

PostgreSQL is the oracle of each byte. Random rows print their seed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from psycopg import pq, sql

from htapkit.testing.postgres import Connection, PostgresServer
from tests import typed_rows
from tests.fix_mirror import Mirrored, difference, fresh_database, last_route, mirrored, printed

pytestmark = pytest.mark.integration

SETTINGS = (
    "TimeZone = 'America/New_York'",
    "TimeZone = 'Asia/Kolkata'",
    "DateStyle = 'SQL, DMY'",
    "DateStyle = 'German'",
    "IntervalStyle = 'iso_8601'",
    "bytea_output = 'escape'",
    "extra_float_digits = 0",
    "extra_float_digits = 3",
    "search_path = pg_catalog",
)


def insert(connection: Connection, table: str, rng: random.Random, numbers: range) -> None:
    """Random rows."""
    holes = ", ".join(f"%s::text::{type_}" for type_ in typed_rows.TYPES)
    statement = f"insert into {table} values (%s, {holes})"
    with connection.transaction():
        for number in numbers:
            connection.execute(statement, typed_rows.row(rng, number))


@pytest.fixture(scope="module")
def typed(mirror: Mirrored) -> str:
    """A table with a column of each type; rows of the copy, of the stream, and changed ones."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    mirror.run(typed_rows.SETUP, typed_rows.create_table("typed"))
    with mirror.database.connect() as connection:
        insert(connection, "typed", rng, range(100))
        mirror.follows("typed")
        insert(connection, "typed", rng, range(100, 200))
        for number in rng.sample(range(200), 80):
            columns = rng.sample(range(len(typed_rows.TYPES)), 5)
            assigned = ", ".join(f"c{c} = o.c{c}" for c in columns)
            update = f"update typed t set {assigned} from typed o where t.id = %s and o.id = %s"
            connection.execute(update, [number, rng.randrange(200)])
        connection.execute("delete from typed where id % 7 = 0")
    return "typed"


def test_every_type_as_text(mirror: Mirrored, typed: str) -> None:
    mirror.follows(typed)
    assert mirror.table(typed)["text_columns"] == []
    with mirror.port("auto") as port, mirror.database.connect() as source:
        for number, type_ in enumerate(typed_rows.TYPES):
            query = f"select id, c{number} from {typed} order by id"
            ours, theirs = printed(port, query), printed(source, query)
            same(type_, ours[1], theirs[1])
            assert ours[0] == theirs[0]
            theirs_alone = type_.startswith(typed_rows.PRINTED_THERE)
            assert last_route(port) == ("source" if theirs_alone else "hot"), type_


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_type_under_other_settings(mirror: Mirrored, typed: str, setting: str) -> None:
    with mirror.port("auto") as port, mirror.database.connect() as source:
        for connection in (port, source):
            connection.execute(f"set {setting}")
        query = f"select * from public.{typed} order by id"
        ours, theirs = printed(port, query), printed(source, query)
        same(setting, ours[1], theirs[1])
        assert ours[0] == theirs[0]


def same(what: str, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    """Fail with the first differences."""
    if ours != theirs:
        pytest.fail(f"{what}: {difference(ours, theirs)}", pytrace=False)


def binary(connection: Connection, query: str) -> list[bytes | None]:
    """The second column in binary; or the error's SQLSTATE, where a type has no such form."""
    result = connection.pgconn.exec_params(query.encode(), None, result_format=1)
    if result.status != pq.ExecStatus.TUPLES_OK:
        return [result.error_field(pq.DiagnosticField.SQLSTATE)]
    return [result.get_value(row, 1) for row in range(result.ntuples)]


def test_every_type_in_binary(mirror: Mirrored, typed: str) -> None:
    local = set()
    with mirror.port("auto") as port, mirror.database.connect() as source:
        for number, type_ in enumerate(typed_rows.TYPES):
            query = f"select id, c{number} from {typed} order by id"
            ours, theirs = binary(port, query), binary(source, query)
            same(type_, ours, theirs)
            local |= {type_} if last_route(port) == "hot" else set()
    print(f"in binary from the copy: {sorted(local)}")
    plain = {"bool", "int2", "int4", "int8", "float4", "float8", "text", "bytea", "uuid", "date"}
    assert plain | {"numeric(12,2)", "timestamptz", "timestamp", "varchar(10)"} <= local


def test_asyncpg(mirror: Mirrored, typed: str) -> None:
    """A driver that reads everything in binary, under its own introspection of types."""
    chosen = [
        number
        for number, type_ in enumerate(typed_rows.TYPES)
        # Python's own types hold no infinity, no BC and no 24:00.
        if not any(w in type_ for w in ("range", "interval", "time", "date", "comp", "reg"))
        and type_ not in {"path", "polygon"}  # whose repr is an address
    ]
    query = f"select {', '.join(f'c{number}' for number in chosen)} from {typed} order by id"

    async def rows(port: int, database: str) -> list[Any]:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="postgres", database=database
        )
        try:
            return [tuple(map(repr, row.values())) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    ours = asyncio.run(rows(mirror.stack.port, "shop"))
    theirs = asyncio.run(rows(mirror.database.server.port, mirror.database.name))
    same("asyncpg", ours, theirs)


LATER = {
    # type of the column, values that fit, the value that comes later
    "nan": ("numeric(12,2)", "g / 4.0", "'NaN'"),
    "far": ("timestamptz", "to_timestamp(g)", "'294276-12-31 23:59:59+00'"),
    "far_local": ("timestamp", "'2026-01-01'::timestamp + g * interval '1 s'", "'294276-06-01'"),
}


@pytest.mark.parametrize("case", LATER)
@pytest.mark.parametrize("how", ["streamed", "copied"])
def test_a_value_that_does_not_fit(mirror: Mirrored, case: str, how: str) -> None:
    """The column is kept as text from then on: exact, and what computes with it asks the source."""
    type_, fitting, value = LATER[case]
    name = f"later_{case}_{how}"
    statements = [
        f"create table {name} (id int primary key, n {type_}, other {type_})",
        f"insert into {name} select g, {fitting}, {fitting} from generate_series(1, 200) g",
    ]
    late = f"insert into {name} values (0, {value}, null)"
    if how == "copied":
        mirror.make(name, *statements, late)
    else:
        mirror.make(name, *statements)
        mirror.equal(name)
        assert mirror.table(name)["text_columns"] == []
        mirror.run(late)
    mirror.settles(name)
    assert mirror.table(name)["text_columns"] == ["n"]
    mirror.run(f"update {name} set other = n where id < 3", f"delete from {name} where id = 9")
    mirror.settles(name)
    assert mirror.table(name)["text_columns"] == ["n", "other"]
    for query in (
        f"select max(n), min(other), count(n) from {name}",
        f"select count(*) from {name} where n = {value}::{type_} or n > other",
        f"select n, count(*) from {name} group by n order by n limit 5",
    ):
        mirror.same_answer(query, "source")
    mirror.same_answer(f"select count(*), sum(id) from {name}", "hot")


def test_values_at_the_edges_come_later(mirror: Mirrored) -> None:
    """Infinity, BC and the longest numbers fit: nothing is copied again."""
    mirror.make(
        "edges",
        "create table edges (id int primary key, d date, ts timestamp, tz timestamptz, t time, "
        "f float8, n numeric, w numeric(38,10), a int[], x text)",
        "insert into edges select g, '2026-01-01', now(), now(), '12:00', g, g, g, array[g], 'x' "
        "from generate_series(1, 100) g",
    )
    mirror.run(
        "insert into edges values (0, 'infinity', '-infinity', 'infinity', '24:00', 'NaN', "
        f"{'9' * 100}.{'9' * 100}, {'9' * 28}.{'9' * 10}, '{{}}', '')",
        "insert into edges values (-1, '4713-01-01 BC', '0044-03-15 12:00 BC', '0001-01-01 BC', "
        "'00:00', '-Infinity', 'NaN', 0, '{{1,2},{3,NULL}}', null)",
        "insert into edges values (-2, '-infinity', 'infinity', '-infinity', '23:59:59.999999', "
        "'-0', 'Infinity', -0.0000000001, '[5:6]={1,2}', E'\\t\\n\\\\')",
        "update edges set n = 1e-100, f = 1e-320, d = '5874897-12-31' where id = 5",
    )
    mirror.equal("edges")
    assert mirror.copies("edges") == 1
    assert mirror.table("edges")["text_columns"] == []
    for query in (
        "select count(*), count(distinct d) from edges where d > '2026-01-01'",
        "select id from edges where tz < '2000-01-01' order by id",
        "select count(f), count(distinct t) from edges",
        "select max(w), min(w) from edges",
    ):
        mirror.same_answer(query, "hot")
    for query in ("select max(n) from edges", "select sum(n) from edges where n < 5"):
        mirror.same_answer(query, "source")


KEYS = {
    "uuid": "md5(g::text)::uuid",
    "text": "'k' || g",
    "varchar(20)": "'k' || g",
    "char(8)": "'k' || g",
    "name": "('k' || g)::name",
    "bytea": "decode(md5(g::text), 'hex')",
    "int2": "g",
    "int8": "g * 10000000000",
    "numeric": "g || '.' || repeat('0', (g % 5)::int)",
    "numeric(12,2)": "g / 4.0",
    "float8": "g / 3.0",
    "float4": "g / 3.0",
    "date": "'2026-01-01'::date + g",
    "timestamptz": "to_timestamp(g)",
    "time": "'00:00'::time + g * interval '1 s'",
    "bool": "g = 1",
    "mood": "(array['sad', 'ünïcode'])[g + 1]",
    "inet": "'10.0.0.0'::inet + g",
    "interval": "g * interval '1 s'",
    "jsonb": "jsonb_build_object('k', g)",
    "int4range": "int4range(g, g + 5)",
    "int4[]": "array[g, g]",
    'text collate "C"': "'K' || g",
}


def test_every_type_as_a_key(mirror: Mirrored, typed: str) -> None:
    """Rows are found again by a key of each type: changed, moved, deleted, put in again."""
    del typed  # its types are there
    tables = {f"key_{number}": (type_, make) for number, (type_, make) in enumerate(KEYS.items())}
    for name, (type_, make) in tables.items():
        short = type_ in {"bool", "mood"}
        cast = type_.partition(" collate")[0]
        mirror.run(
            f"create table {name} (k {type_} primary key, v int)",
            f"insert into {name} select (({make})::text)::{cast}, g "
            f"from generate_series({0 if short else 1}, {1 if short else 60}) g",
        )
    mirror.follows(*tables)
    for name, (type_, make) in tables.items():
        cast = type_.partition(" collate")[0]
        if type_ in {"bool", "mood"}:
            mirror.run(
                f"update {name} set v = -1",
                f"delete from {name} where k = (select k from {name} order by k limit 1)",
            )
            continue
        mirror.run(
            f"update {name} set v = -v where v % 2 = 0",
            f"delete from {name} where v % 3 = 0",
            f"insert into {name} select (({make})::text)::{cast}, g from generate_series(61, 70) g",
            f"update {name} a set k = (select (({make})::text)::{cast} "
            "from (select a.v + 100 as g) x) where v between 1 and 30",
            f"insert into {name} select (({make})::text)::{cast}, g from generate_series(3, 3) g",
        )
    mirror.equal(*tables, order="")
    assert mirror.all_copies(*tables) == dict.fromkeys(tables, 1)


def test_contrib_types(pg15: PostgresServer, tmp_path: Path) -> None:
    """hstore, citext, xml, ltree and others, where Debian's server is installed."""
    wanted = {
        "hstore": ("hstore", """'a=>1, "b c"=>NULL'""", '\'x=>"q\\"u"\''),
        "citext": ("citext", "'MiXed'", "''"),
        "ltree": ("ltree", "'Top.Science'", "'a.b.c'"),
        "cube": ("cube", "'(1,2),(3,4)'", "'(0)'"),
        "isn": ("isbn", "'978-0-393-04002-9'", "null"),
        "seg": ("seg", "'1.5 .. 2.50'", "'~6.5'"),
    }
    with fresh_database(pg15) as database, database.connect() as connection:
        found = {
            row[0]
            for row in connection.execute("select name from pg_available_extensions").fetchall()
        }
        chosen = {name: how for name, how in wanted.items() if name in found}
        for name in chosen:
            connection.execute(sql.SQL("create extension {}").format(sql.Identifier(name)))
        columns = ", ".join(f"c_{name} {how[0]}" for name, how in chosen.items())
        first = ", ".join(how[1] for how in chosen.values())
        second = ", ".join(how[2] for how in chosen.values())
        xml = "'<a b=\"1\">t<!-- c --></a>'::xml"
        connection.execute(f"create table odd (id int primary key, x xml, {columns})")
        connection.execute(f"insert into odd values (1, {xml}, {first})")
        connection.execute("create table ci (k citext primary key, v int)")
        connection.execute("insert into ci values ('One', 1), ('two', 2)")
        with mirrored(database, tmp_path) as one:
            one.settles("odd")
            one.run(
                f"insert into odd values (2, 'just text', {second}), (3, null, {first})",
                f"update odd set x = {xml} where id = 3",
                "update ci set k = 'ONE' where v = 1",
                "delete from ci where k = 'TWO'",
            )
            one.equal("odd")
            one.follows("ci")
            one.equal("ci", order="")
            for query in (
                "select * from ci where k = 'one'",
                "select count(distinct k) from ci",
                "select k from ci order by k",
            ):
                with one.port("auto") as port:
                    assert printed(port, query) == printed(connection, query), query
