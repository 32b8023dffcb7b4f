"""The Flight SQL port with ADBC's driver: statements, parameters, catalogs, errors, cancels."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from adbc_driver_manager import DatabaseError, OperationalError
from pyarrow import flight

from htapkit.serve.flight import FlightOptions
from htapkit.serve.flight.handler import Limits
from htapkit.serve.flight.protobuf import make_octets
from htapkit.testing.postgres import Database, PostgresServer
from tests.integration.flight_place import Place, ask, fetch, running

pytestmark = pytest.mark.integration

ROWS = 1_000_000
SETUP = """
create table orders (
  id int8 primary key, customer int4, total numeric(12,2), rate float8, made timestamptz, note text
);
insert into orders
select g, case when g % 11 <> 0 then g % 1000 end, g / 7.0, 1.0 / g,
       '2024-01-01 00:00+00'::timestamptz + g * interval '1 second',
       case when g % 3 = 0 then null else 'note ' || g end
from generate_series(1, 1000000) g;
create table pairs (a int4, b text, primary key (b, a));
insert into pairs values (1, 'x'), (3, 'z');
create domain price as numeric(9, 3);
create view cheap as select id, total::price as price from orders where total < 1;
create table ledger (id int4 primary key, amount numeric(10, 2), day date);
"""
HOT = {"htapkit-route": "hot", "htapkit-freshness": "strong"}
LIMITS = Limits(parameter_rows_max=20_000)


@pytest.fixture(scope="module")
def place(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    shop, other = Database(pg, "flight_shop"), Database(pg, "flight_other")
    shop.execute(SETUP)
    other.execute("create table words (id int4 primary key, word text)")
    other.execute("insert into words values (1, 'one')")
    options = FlightOptions(port=0, trust=True, limits=LIMITS)
    folder = tmp_path_factory.mktemp("flight")
    try:
        with running(folder, {"shop": shop, "other": other}, options) as place:
            yield place
    finally:
        shop.drop()
        other.drop()


def test_a_million_rows_are_the_sources_own(place: Place) -> None:
    rows = place.rows("select * from orders", HOT)
    assert rows.schema == pa.schema(
        {
            "id": pa.int64(),
            "customer": pa.int32(),
            "total": pa.decimal128(12, 2),
            "rate": pa.float64(),
            "made": pa.timestamp("us", "UTC"),
            "note": pa.string(),
        }
    )
    with place.database.connect() as source:
        told = source.execute(
            "select sum(id), count(customer), sum(customer), sum(total), min(made), max(made), "
            "count(note), sum(length(note)), max(rate) from orders"
        ).fetchone()
        some = source.execute("select * from orders where id % 9973 = 5 order by id").fetchall()
    column = rows.column
    assert told == (
        pc.sum(column("id")).as_py(),
        pc.count(column("customer")).as_py(),
        pc.sum(column("customer")).as_py(),
        pc.sum(column("total")).as_py(),
        pc.min(column("made")).as_py(),
        pc.max(column("made")).as_py(),
        pc.count(column("note")).as_py(),
        pc.sum(pc.utf8_length(column("note"))).as_py(),
        pc.max(column("rate")).as_py(),
    )
    assert (rows.num_rows, len(set(column("id").to_pylist()))) == (ROWS, ROWS)
    ids = column("id").to_numpy()
    chosen = rows.filter(pa.array(ids % 9973 == 5)).sort_by("id")
    assert [tuple(row.values()) for row in chosen.to_pylist()] == some


def test_both_routes_give_the_same_columns_and_rows(place: Place) -> None:
    sql = (
        "select customer, count(*) as orders, sum(total), avg(total), max(made), min(note) "
        'collate "C", sum(total)::numeric(14,2) as exact '
        "from orders group by customer order by customer nulls first limit 50"
    )
    here, there = place.rows(sql), place.rows(sql, {"htapkit-route": "source"})
    assert here == there
    assert here.schema.field("exact").type == pa.decimal128(14, 2)
    assert here.schema.field("avg").type == pa.string()  # numeric of no declared scale
    with place.database.connect() as source:
        told = source.execute(sql).fetchall()
    assert [str(row[3]) for row in told] == here.column("avg").to_pylist()
    assert [row[6] for row in told] == here.column("exact").to_pylist()


def test_the_views_of_the_copy(place: Place) -> None:
    """Schema htapkit; what is left is finished at the source, and the route is remembered."""
    sql = "select table_name, state, pg_size_pretty(rows) as many from htapkit.tables"
    found = place.rows(f"{sql} where table_name = 'orders'")
    assert found.schema.types == [pa.string()] * 3
    many = place.database.execute("select pg_size_pretty(%s::bigint)", [ROWS])[0][0]
    assert found.to_pylist() == [{"table_name": "orders", "state": "following", "many": many}]
    place.rows("select 1 from orders limit 1", HOT)  # it has looked at what other tests made
    place.rows("select count(*) from orders where id < 77")
    (last,) = place.rows("select route, statement from htapkit.routes limit 1").to_pylist()
    assert last == {"route": "hot", "statement": "select count(*) from orders where id < ?"}


def test_the_route_is_told(place: Place) -> None:
    place.rows("select 1 from orders limit 1", HOT)  # it has looked at what other tests made
    place.rows("select count(*) from orders")
    assert place.rows("show htapkit.last_route").to_pylist() == [{"htapkit.last_route": "hot"}]
    place.rows("select count(*) from orders", {"htapkit-route": "source"})
    assert place.rows("show htapkit.last_route").to_pylist() == [{"htapkit.last_route": "source"}]
    explained = place.rows("explain (route) select count(*) from orders").to_pylist()
    assert [row["route"] for row in explained if row["chosen"] == "true"] == ["hot"]


def test_own_writes_are_seen_and_counted(place: Place) -> None:
    with place.connect() as connection, connection.cursor() as cursor:
        cursor.execute("delete from ledger")
        for number in range(1, 30):
            cursor.execute(f"insert into ledger values ({number}, {number}.5, '2026-02-01')")
            cursor.execute("select count(*), sum(amount)::numeric(12,2) from ledger")
            assert cursor.fetchall() == [
                (number, Decimal(number * (number + 1)) / 2 + Decimal(number) / 2)
            ]
        cursor.execute("update ledger set amount = 0 where id <= 10 returning id")
        assert sorted(cursor.fetchall()) == [(number,) for number in range(1, 11)]
    with place.connect(HOT) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*) from ledger where amount = 0")
        assert cursor.fetchall() == [(10,)]


def test_parameters_of_many_types(place: Place) -> None:
    made = datetime(2024, 1, 1, 0, 0, 7, tzinfo=UTC)
    with place.connect(HOT) as connection, connection.cursor() as cursor:
        sql = "select id from orders where id = $1 and made = $2 and total = $3 and note = $4"
        cursor.execute(sql, (7, made, Decimal("1.00"), "note 7"))
        assert cursor.fetchall() == [(7,)]
        cursor.execute(sql, (7, made, Decimal("1.01"), "note 7"))
        assert cursor.fetchall() == []
        cursor.execute("select count(*) from orders where note = $1", ("it's ' \\ ünïcode",))
        assert cursor.fetchall() == [(0,)]
    with place.connect() as connection, connection.cursor() as cursor:
        values = (True, b"\x00\xff", made.date(), 0.1, None, "it's \\")
        cursor.execute("select $1::bool, $2::bytea, $3::date, $4::float8, $5::text, $6", values)
        assert cursor.fetchall() == [values]


def test_a_prepared_statement_says_what_it_gives(place: Place) -> None:
    with place.connect() as connection, connection.cursor() as cursor:
        parameters = cursor.adbc_prepare(
            "select id, total from orders where customer = $1 and made > $2"
        )
        assert parameters is not None
        assert parameters.types == [pa.int32(), pa.timestamp("us", "UTC")]
    with pytest.raises(DatabaseError, match="1 parameters"):
        place.rows("select id from orders where id = $1")


def test_many_rows_of_parameters_are_one_transaction(place: Place) -> None:
    with place.connect() as connection, connection.cursor() as cursor:
        cursor.execute("delete from ledger")
        rows = [(number, Decimal(number), None) for number in range(5000)]
        cursor.executemany("insert into ledger values ($1, $2, $3)", rows)
        assert cursor.rowcount == 5000
        with pytest.raises(DatabaseError, match="23505"):
            cursor.executemany(
                "insert into ledger values ($1, $2, $3)", [(9000, 1, None), (17, 1, None)]
            )
        cursor.execute("select count(*), sum(amount)::numeric(12,2) from ledger")
        assert cursor.fetchall() == [(5000, Decimal(4999 * 2500))]
        with pytest.raises(DatabaseError, match="20000 rows of parameters"):
            cursor.executemany("delete from ledger where id = $1", [(1,)] * 20_001)


@pytest.mark.parametrize(
    ("sql", "sqlstate", "words"),
    [
        ("select * from nosuch", "42P01", 'relation "nosuch" does not exist'),
        ("selec 1", "42601", "syntax error"),
        ("select 1 / (id - id) from orders limit 1", "22012", "division by zero"),
        ("select total / 0 from orders where id = 1", "22012", "division by zero"),
        ("begin", "0A000", "no session"),
        ("start transaction isolation level serializable", "0A000", "no transactions"),
        ("set timezone = 'UTC'", "0A000", "no session"),
        ("set htapkit.freshness = 'any'", "0A000", "header htapkit-freshness"),
        ("copy orders to stdout", "0A000", "COPY"),
        ("copy ledger from stdin", "0A000", "COPY"),
        ("select 1; select 2", "42601", "multiple commands"),
        ("insert into ledger values (1, 'x')", "22P02", "invalid input"),
    ],
)
def test_errors_carry_their_sqlstate(place: Place, sql: str, sqlstate: str, words: str) -> None:
    with pytest.raises(DatabaseError, match=words) as raised:
        place.rows(sql)
    assert f"[SQLSTATE {sqlstate}]" in str(raised.value)
    assert "Traceback" not in str(raised.value)
    with flight.connect(place.address) as client, pytest.raises(flight.FlightError) as told:
        fetch(client, sql)
    assert json.loads(told.value.extra_info) == {"sqlstate": sqlstate}


@pytest.mark.parametrize(
    ("headers", "sqlstate"),
    [
        ({"htapkit-freshness": "sometimes"}, "22023"),
        ({"htapkit-route": "nowhere"}, "22023"),
        ({"database": "nosuch"}, "3D000"),
        ({"htapkit-route": "hot"}, "0A000"),
    ],
)
def test_headers_are_checked(place: Place, headers: dict[str, str], sqlstate: str) -> None:
    with pytest.raises(DatabaseError, match=sqlstate):
        place.rows("select * from cheap", headers)


def test_nothing_of_a_statement_stays_for_the_next(place: Place) -> None:
    place.rows("create temp table mine (a int4)")
    with pytest.raises(DatabaseError, match="42P01"):
        place.rows("select * from mine")
    place.rows("do $$ begin perform set_config('search_path', 'pg_catalog', false); end $$")
    assert place.rows("select count(*) from ledger", {"htapkit-route": "source"}).num_rows == 1
    with pytest.raises(DatabaseError):
        place.rows("start transaction isolation level serializable")
    assert place.rows("select count(*) from ledger").num_rows == 1


def test_changed_tables_are_read_as_they_are(place: Place) -> None:
    place.rows("create table changing (id int4 primary key, a int4)")
    place.rows("insert into changing select g, g from generate_series(1, 1000) g")
    assert place.rows("select sum(a) from changing").to_pylist() == [{"sum": 500_500}]
    place.rows("alter table changing add column b int4 not null default 7")
    assert place.rows("select sum(b) from changing").to_pylist() == [{"sum": 7000}]
    assert place.rows("select * from changing where id = 1").column_names == ["id", "a", "b"]
    place.rows("drop table changing")
    with pytest.raises(DatabaseError, match="42P01"):
        place.rows("select * from changing")


@pytest.mark.parametrize(
    "change", ["add column b int4 default 7", "alter column a type text", "drop column a"]
)
def test_tables_that_others_change(place: Place, change: str) -> None:
    """At worst the next statement has to be asked again."""
    headers = {"htapkit-route": "source"}
    place.rows("create table moving (id int4 primary key, a int4)")
    place.rows("insert into moving values (1, 2)")
    try:
        before = place.rows("select * from moving", headers)
        assert before.to_pylist() == [{"id": 1, "a": 2}]
        place.database.execute(f"alter table moving {change}")
        with contextlib.suppress(DatabaseError):
            place.rows("select * from moving", headers)
        after = place.rows("select * from moving", headers).to_pylist()
        with place.database.connect() as source:
            assert [tuple(row.values()) for row in after] == source.execute(
                "select * from moving"
            ).fetchall()
    finally:
        place.rows("drop table moving")


def test_another_database(place: Place) -> None:
    assert place.rows("select word from words", {"database": "other"}).to_pylist() == [
        {"word": "one"}
    ]
    both = place.rows("select word from other.public.words").to_pylist()
    assert both == [{"word": "one"}]


def test_odd_shapes(place: Place) -> None:
    assert place.rows("select from orders limit 5").num_columns == 0
    assert place.rows("select * from orders where id < 0").num_rows == 0
    assert place.rows("select 1 as a, 2 as a").column_names == ["a", "a"]
    assert place.rows("--").num_columns == 0
    wide = ", ".join(f"{n} as c{n}" for n in range(1000))
    assert place.rows(f"select {wide}").num_columns == 1000
    assert (
        place.rows("select repeat('x', 5000000) as big").column("big")[0].as_py() == "x" * 5_000_000
    )


def test_catalogs(place: Place) -> None:
    with place.connect() as connection:
        objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        assert [each["catalog_name"] for each in objects] == ["other", "shop"]
        schemas = {s["db_schema_name"]: s for s in objects[1]["catalog_db_schemas"]}
        tables = {t["table_name"]: t for t in schemas["public"]["db_schema_tables"]}
        assert {name: t["table_type"] for name, t in tables.items()} == {
            "cheap": "VIEW",
            "ledger": "TABLE",
            "orders": "TABLE",
            "pairs": "TABLE",
        }
        columns = [c["column_name"] for c in tables["orders"]["table_columns"]]
        assert columns == ["id", "customer", "total", "rate", "made", "note"]
        assert (
            connection.adbc_get_table_schema("orders").types
            == place.rows("select * from orders limit 0").schema.types
        )
        assert connection.adbc_get_table_schema("cheap").field("price").type == pa.decimal128(9, 3)
        only = (
            connection.adbc_get_objects(
                depth="tables",
                db_schema_filter="pub%",
                table_name_filter="p_irs",
                catalog_filter="shop",
            )
            .read_all()
            .to_pylist()
        )
        found = [
            t["table_name"]
            for c in only
            for s in c["catalog_db_schemas"] or ()
            for t in s["db_schema_tables"]
        ]
        assert found == ["pairs"]
        assert "TABLE" in connection.adbc_get_table_types()
        assert connection.adbc_get_info()["vendor_name"] == "htapkit"


def test_primary_keys_and_facts(place: Place) -> None:
    keys = ask(place, "CommandGetPrimaryKeys", make_octets(2, "public") + make_octets(3, "pairs"))
    assert [(row["column_name"], row["key_sequence"]) for row in keys.to_pylist()] == [
        ("b", 1),
        ("a", 2),
    ]
    facts = ask(place, "CommandGetSqlInfo", make_octets(1, b"\x00\x03\x08\x8f\x4e")).to_pylist()
    assert facts == [
        {"info_name": 0, "value": "htapkit"},
        {"info_name": 3, "value": False},
        {"info_name": 8, "value": 0},
    ]
    system = ask(
        place, "CommandGetTables", make_octets(3, "pg_class") + make_octets(4, "SYSTEM TABLE")
    )
    assert system.column("table_name").to_pylist() == ["pg_class"]


def test_readers_at_once_while_rows_change(place: Place) -> None:
    """Each answer is of one moment: the sum that every transaction keeps."""
    place.rows("create table accounts (id int4 primary key, amount int4)")
    place.rows("insert into accounts select g, 100 from generate_series(1, 100) g")
    stop, sums = threading.Event(), set()

    def move() -> None:
        with place.database.connect() as source:
            number = 0
            while not stop.is_set():
                number += 1
                source.execute(
                    "update accounts set amount = amount + case id when %s then 1 else -1 end "
                    "where id in (%s, %s)",
                    (number % 100 + 1, number % 100 + 1, (number + 7) % 100 + 1),
                )

    def read() -> None:
        for _ in range(15):
            rows = place.rows("select id, amount from accounts")
            assert rows.num_rows == 100
            sums.add(pc.sum(rows.column("amount")).as_py())

    mover = threading.Thread(target=move)
    readers = [threading.Thread(target=read) for _ in range(4)]
    for thread in (mover, *readers):
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    mover.join()
    place.rows("drop table accounts")
    assert sums == {10_000}


def test_an_error_in_the_middle_of_a_stream(place: Place) -> None:
    sql = "select 1 / (900000 - id) as a from orders order by id"
    for route in ("source", "auto"):
        with pytest.raises((DatabaseError, OperationalError), match="22012"):
            place.rows(sql, {"htapkit-route": route})
