"""Every type over Flight SQL, from the copy and from the source, as PostgreSQL has its values.

PostgreSQL is the oracle. Random rows print their seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pyarrow as pa
import pytest

from htapkit.serve.flight import FlightOptions
from htapkit.testing.postgres import Database, PostgresServer
from tests import typed_rows
from tests.integration.flight_place import Place, running

pytestmark = pytest.mark.integration

ROWS = 300


@pytest.fixture(scope="module")
def place(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    shop = Database(pg, "flight_types")
    shop.execute(typed_rows.SETUP)
    shop.execute(typed_rows.create_table("typed"))
    holes = ", ".join(f"%s::text::{type_}" for type_ in typed_rows.TYPES)
    with shop.connect() as connection, connection.transaction():
        for number in range(ROWS):
            connection.execute(
                f"insert into typed values (%s, {holes})".encode(), typed_rows.row(rng, number)
            )
    folder = tmp_path_factory.mktemp("flight")
    try:
        with running(folder, {"shop": shop}, FlightOptions(port=0, trust=True)) as place:
            yield place
    finally:
        shop.drop()


def answer(place: Place, sql: str, route: str) -> tuple[pa.Table, str]:
    """The rows, and where they came from."""
    headers = {"htapkit-route": route}
    with place.connect(headers) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        table = cursor.fetch_arrow_table()
        cursor.execute("show htapkit.last_route")
        return table, str(cursor.fetchall()[0][0])


@pytest.mark.parametrize("route", ["auto", "source"])
def test_every_type(place: Place, route: str) -> None:
    columns = ", ".join(f"c{number}" for number in range(len(typed_rows.TYPES)))
    table, source = answer(place, f"select {columns} from typed order by id", route)
    # What a name of the catalog prints as is the catalog's to say.
    assert source == "source"
    same(place, table)


def test_every_type_from_the_copy(place: Place) -> None:
    wanted = [
        n for n, t in enumerate(typed_rows.TYPES) if not t.startswith(typed_rows.PRINTED_THERE)
    ]
    columns = ", ".join(f"c{number}" for number in wanted)
    table, source = answer(place, f"select {columns} from typed order by id", "hot")
    assert source == "hot"
    assert len(wanted) > 70
    same(place, table)


def same(place: Place, table: pa.Table) -> None:
    """Each value is what PostgreSQL says that it is."""
    assert table.num_rows == ROWS
    types = list(typed_rows.TYPES)
    with place.database.connect() as source:
        for name in table.column_names:
            array = table.column(name).combine_chunks()
            question = f"select {typed_rows.oracle(name, array.type)} from typed order by id"
            told = [row[0] for row in source.execute(question.encode()).fetchall()]
            assert typed_rows.told(array) == told, types[int(name[1:])]


def test_columns_have_the_types_of_their_declaration(place: Place) -> None:
    expected = {
        "bool": pa.bool_(),
        "int2": pa.int16(),
        "float4": pa.float32(),
        "numeric": pa.string(),
        "numeric(12,2)": pa.decimal128(12, 2),
        "numeric(60,5)": pa.string(),
        "varchar(10)": pa.string(),
        "bytea": pa.binary(),
        "date": pa.date32(),
        "time": pa.time64("us"),
        "timetz": pa.string(),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
        "uuid": pa.string(),
        "jsonb": pa.string(),
        "special_price": pa.decimal128(10, 2),
        "int4[]": pa.string(),
        "mood": pa.string(),
    }
    types = list(typed_rows.TYPES)
    with place.connect() as connection:
        schema = connection.adbc_get_table_schema("typed")
    for type_, arrow in expected.items():
        assert schema.field(f"c{types.index(type_)}").type == arrow, type_


def test_a_value_that_arrow_cannot_hold_is_an_error(place: Place) -> None:
    place.rows("create table odd_numbers (id int4 primary key, n numeric(5,2))")
    place.rows("insert into odd_numbers values (1, 'NaN')")
    for route in ("source", "auto"):
        with pytest.raises(Exception, match="22003") as raised:
            place.rows("select n from odd_numbers", {"htapkit-route": route})
        assert "column n" in str(raised.value)
    assert place.rows("select n::text from odd_numbers").to_pylist() == [{"n": "NaN"}]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_the_roles_time_zone_counts(place: Place, zone: str) -> None:
    """Instants are instants; what is text, or computed from local time, is as the role has it."""
    place.database.execute(f"alter role postgres set timezone = '{zone}'")
    number = list(typed_rows.TYPES).index("tstzrange")
    when = list(typed_rows.TYPES).index("timestamptz")
    sql = (
        f"select c{number}, c{when}, date_trunc('day', c{when}) as day "
        f"from typed where c{when} between '1950-01-01' and '2030-01-01' order by id"
    )
    try:
        with place.another(FlightOptions(port=0, trust=True)) as port:
            address = f"grpc+tcp://127.0.0.1:{port}"
            tables = []
            for route in ("auto", "source"):
                headers = {"htapkit-route": route}
                with place.connect(headers, address) as c, c.cursor() as cursor:
                    cursor.execute(sql)
                    tables.append(cursor.fetch_arrow_table())
        assert tables[0] == tables[1]
        with place.database.connect() as source:
            told = source.execute(sql.replace(f"c{number}", f"c{number}::text", 1)).fetchall()
        assert [tuple(row.values()) for row in tables[0].to_pylist()] == told
    finally:
        place.database.execute("alter role postgres reset timezone")


def test_texts_are_sorted_as_the_source_sorts_them(place: Place) -> None:
    """It ranks them. What is only sorted by is not among the columns."""
    text = f"c{list(typed_rows.TYPES).index('text')}"
    sql = f"select id from typed order by {text} desc nulls last, id limit 200 offset 5"
    here, route = answer(place, sql, "hot")
    there, _ = answer(place, sql, "source")
    assert (route, here.column_names) == ("hot", ["id"])
    assert here == there
    plan, _ = answer(place, f"explain (route) {sql}", "auto")
    assert "sorted by ranks" in str(plan.column("reason")[0])
