"""Iceberg tables of others over the port: what pyiceberg writes beside ours is read, joined, told.

The tables are written through the catalog's file, as any engine would; expected rows stand here.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import adbc_driver_flightsql.dbapi as adbc
import psycopg
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField, StringType, UUIDType

from htapkit.client import ServerRefused
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import Stack, wait_until
from tests.fix_mirror import WATCH, fresh_database, slot_name
from tests.unit.htapkit.lake.test_deletes import delete_rows

pytestmark = pytest.mark.integration

VISITS = pa.table(
    {
        "customer": pa.array([1, 2, 2, 3, None], pa.int64()),
        "page": ["a", "b", "c", "d", None],
        "cost": pa.array([Decimal("1.50"), Decimal("2.25"), None, Decimal("0.10"), None]),
        "day": pa.array([0, 1, 1, 2, None], pa.date32()),
    }
)


@pytest.fixture(scope="module")
def database(pg18: PostgresServer) -> Iterator[Database]:
    """What is imported does not depend on the source's version."""
    with fresh_database(pg18) as made:
        yield made


@pytest.fixture(scope="module")
def stack(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Customers at the source; only `postgres` may read what is imported. Each test its tables."""
    database.execute("CREATE TABLE customers (id int PRIMARY KEY, name text)")
    database.execute("INSERT INTO customers SELECT g, 'c' || g FROM generate_series(1, 3) g")
    source = {"dsn": database.dsn, "tables": ["public.*"], "slot": slot_name(database)}
    configuration = {
        "imports": {"readers": {"*": ["postgres"], "web.secrets": []}, "interval": "100 ms"},
        "watch_interval": WATCH,
        "servers": {"flight": {"listen": "127.0.0.1:0", "auth": "trust"}},
    }
    with Stack(tmp_path_factory.mktemp("i"), {"shop": source}, configuration=configuration) as made:
        made.wait_ready()
        yield made


def catalog(stack: Stack) -> SqlCatalog:
    """The lake's, as another engine opens it."""
    data = stack.folder / "data"
    data.joinpath("warehouse").mkdir(exist_ok=True)
    return SqlCatalog(
        "htapkit",
        uri=f"sqlite:///{data}/catalog.db?timeout=30",
        warehouse=f"file://{data}/warehouse",
    )


def written(stack: Stack, name: str = "visits", rows: pa.Table = VISITS) -> Table:
    """A table `web.<name>` that somebody else wrote."""
    opened = catalog(stack)
    opened.create_namespace_if_not_exists("web")
    table = opened.create_table(("web", name), rows.schema)
    table.append(rows)
    return table


def imported(stack: Stack, name: str = "web.visits", as_name: str | None = None) -> str:
    """What it is called here."""
    with stack.client() as client:
        return str(client.import_table(name, as_name)["table"])


def ask(stack: Stack, sql: str) -> list[tuple[object, ...]]:
    """The rows of a statement at the port."""
    with stack.connect() as port:
        return [tuple(row) for row in port.execute(sql).fetchall()]


def test_rows_types_joins_and_the_route(stack: Stack) -> None:
    """Every value as it was written, alone and beside mirrored rows; EXPLAIN says lake."""
    written(stack)
    assert imported(stack) == "lake.web.visits"
    with stack.connect() as port:
        found = port.execute("SELECT * FROM lake.web.visits ORDER BY page")
        assert [(c.name, c.type_code) for c in found.description or ()] == [
            ("customer", 20),
            ("page", 25),
            ("cost", 1700),
            ("day", 1082),
        ]
        assert [tuple(row) for row in found.fetchall()] == [
            tuple(row.values()) for row in VISITS.to_pylist()
        ]
        assert port.execute("SHOW htapkit.last_route").fetchone() == ("lake",)
        explained = port.execute("EXPLAIN (ROUTE) SELECT count(*) FROM lake.web.visits")
        routes = [(row[0], row[1]) for row in explained.fetchall()]
        assert ("lake", "t") in routes or ("lake", "true") in routes, routes
        joined = port.execute(
            "SELECT c.name, count(*), sum(v.cost) FROM customers c"
            " JOIN lake.web.visits v ON v.customer = c.id WHERE v.page <> %s"
            " GROUP BY c.name ORDER BY c.name",
            ("d",),
        )
        assert joined.fetchall() == [("c1", 1, Decimal("1.50")), ("c2", 2, Decimal("2.25"))]


def test_later_commits_and_deletes_are_seen(stack: Stack) -> None:
    """Appends, rows deleted by position files, and a column that was added and one renamed."""
    table = written(stack, "changing")
    imported(stack, "web.changing")
    count = "SELECT count(*), max(page) FROM lake.web.changing"
    assert ask(stack, count) == [(5, "d")]
    table.append(VISITS.slice(3, 1))
    wait_until(lambda: ask(stack, count) == [(6, "d")], 60)
    table = catalog(stack).load_table("web.changing")
    first = next(iter(table.scan(snapshot_id=table.metadata.snapshots[0].snapshot_id).plan_files()))
    delete_rows(table, [(first.file.file_path, 0), (first.file.file_path, 3)], Record())
    wait_until(lambda: ask(stack, count) == [(4, "d")], 60)
    pages = "SELECT page FROM lake.web.changing WHERE page IS NOT NULL ORDER BY page"
    assert ask(stack, pages) == [("b",), ("c",), ("d",)]
    table = catalog(stack).load_table("web.changing")
    with table.update_schema() as change:
        change.rename_column("page", "url").add_column("added", LongType())
    table.append(pa.table({"url": ["z"], "added": pa.array([9], pa.int64())}))
    urls = "SELECT url, added FROM lake.web.changing WHERE url IS NOT NULL ORDER BY url"
    wanted = [("b", None), ("c", None), ("d", None), ("z", 9)]

    def seen() -> bool:
        try:
            return ask(stack, urls) == wanted
        except psycopg.Error:
            return False  # the columns of before

    wait_until(seen, 60)


def test_columns_become_others(stack: Stack) -> None:
    """A wider type, two names exchanged, a name dropped and given to a new column."""
    rows = pa.table({"n": pa.array([1], pa.int32()), "a": ["A"], "b": ["B"], "c": ["C"]})
    table = written(stack, "shifting", rows)
    imported(stack, "web.shifting")
    assert ask(stack, "SELECT n, a, b, c FROM lake.web.shifting") == [(1, "A", "B", "C")]
    with table.update_schema() as change:
        change.update_column("n", LongType()).delete_column("c")
        change.rename_column("a", "x").rename_column("b", "y")
    with table.update_schema() as change:
        change.rename_column("x", "b").rename_column("y", "a").add_column("c", StringType())
    new = {"n": pa.array([2**40], pa.int64()), "a": ["B2"], "b": ["A2"], "c": ["C2"]}
    table.append(pa.table(new))
    wanted = [(1, "B", "A", None), (2**40, "B2", "A2", "C2")]

    def seen() -> bool:
        found = "SELECT n, a, b, c FROM lake.web.shifting ORDER BY n"
        try:
            return ask(stack, found) == wanted
        except psycopg.Error:
            return False  # the columns of before

    wait_until(seen, 60)


def test_metadata_of_before_is_removed(stack: Stack) -> None:
    """Engines commit without changing a row, and remove older metadata files."""
    table = written(stack, "tidied")
    imported(stack, "web.tidied")
    first = Path(table.metadata_location.removeprefix("file://"))
    with table.transaction() as change:
        change.set_properties({"owner": "somebody"})
    first.unlink()
    stack.stop()  # what was read before is forgotten
    stack.start()
    stack.wait_ready()

    def seen() -> bool:
        try:
            return ask(stack, "SELECT count(*) FROM lake.web.tidied") == [(5,)]
        except psycopg.Error:
            return False  # not looked at yet

    wait_until(seen, 60)


def test_only_readers_see_it(stack: Stack, database: Database) -> None:
    """Nobody may by default: a role has to be named, and a table's own entry goes before `*`."""
    written(stack, "open")
    written(stack, "secrets")
    imported(stack, "web.open")
    imported(stack, "web.secrets")
    with pytest.raises(psycopg.Error, match="permission denied for"):
        ask(stack, "SELECT * FROM lake.web.secrets")
    with pytest.raises(psycopg.Error, match="permission denied for"):
        ask(stack, "SELECT c.id FROM customers c JOIN lake.web.secrets s ON s.customer = c.id")
    database.execute("CREATE ROLE import_guest")
    try:
        with stack.connect() as port:
            port.execute("SET ROLE import_guest")
            with pytest.raises(psycopg.Error, match="readers does not name import_guest"):
                port.execute("SELECT * FROM lake.web.open")
            port.execute("RESET ROLE")
            assert port.execute("SELECT count(*) FROM lake.web.open").fetchone() == (5,)
    finally:
        database.execute("DROP ROLE import_guest")


def test_it_survives_a_restart_and_can_be_dropped(stack: Stack) -> None:
    """Registered once; dropping it leaves the table to whoever wrote it."""
    table = written(stack, "kept")
    assert imported(stack, "web.kept", "clicks") == "lake.web.clicks"
    written(stack, "other")
    with pytest.raises(ServerRefused, match="choose another name"):
        imported(stack, "web.other", "clicks")
    stack.stop()
    stack.start()
    stack.wait_ready()
    assert ask(stack, "SELECT count(*) FROM lake.web.clicks") == [(5,)]
    shown = "SELECT table_schema, rows, state FROM htapkit.tables WHERE table_name = 'clicks'"
    assert ask(stack, shown) == [("lake.web", 5, "imported")]
    with stack.client() as client:
        told = next(e for e in client.status()["imported"] if e["table"] == "lake.web.clicks")
        assert (told["table"], told["catalog_name"], told["rows"]) == (
            "lake.web.clicks",
            "web.kept",
            5,
        )
        client.drop_import("lake.web.clicks")
        left = [each["table"] for each in client.status()["imported"]]
        assert "lake.web.clicks" not in left
        with pytest.raises(ServerRefused, match="not imported"):
            client.drop_import("lake.web.clicks")
    with pytest.raises(psycopg.errors.UndefinedTable):
        ask(stack, "SELECT * FROM lake.web.clicks")
    assert table.refresh().scan().to_arrow().num_rows == 5


def test_what_cannot_be_read_is_said(stack: Stack) -> None:
    """No such table, one of ours, one without rows, a type that is left out, one that goes."""
    for name, why in (
        ("web.nothing", "has no table"),
        ("visits", "expected namespace.table"),
        ("shop.public.customers", "mirrored"),
        ("history.shop%2Epublic.customers", "history of a mirrored"),
    ):
        with stack.client() as client, pytest.raises(ServerRefused, match=why):
            client.import_table(name)
    opened = catalog(stack)
    opened.create_namespace_if_not_exists("web")
    schema = Schema(
        NestedField(1, "token", UUIDType(), required=False),
        NestedField(2, "word", StringType(), required=False),
    )
    table = opened.create_table("web.words", schema)
    with pytest.raises(ServerRefused, match="no snapshot"):
        imported(stack, "web.words")
    table.append(pa.table({"word": ["x"]}))
    with stack.client() as client:
        assert client.import_table("web.words")["left_out"] == ["token (uuid)"]
    assert ask(stack, "SELECT * FROM lake.web.words") == [("x",)]
    opened.drop_table("web.words")

    def told() -> str:
        with stack.client() as client:
            found = client.status()["imported"]
            return next(str(e["why"]) for e in found if e["table"] == "lake.web.words")

    wait_until(lambda: "has no table" in told(), 60)
    with pytest.raises(psycopg.Error, match="has no table"):
        ask(stack, "SELECT * FROM lake.web.words")


def test_flight_and_a_folder_outside_the_warehouse(stack: Stack, tmp_path: Path) -> None:
    """Over Flight SQL, too; files that the hot store may not open come through the lake."""
    opened = catalog(stack)
    opened.create_namespace_if_not_exists("web")
    table = opened.create_table("web.far", VISITS.schema, location=f"file://{tmp_path}/far")
    table.append(VISITS)
    imported(stack, "web.far")
    with stack.client() as client:
        port = client.status()["flight_port"]
    address = f"grpc+tcp://127.0.0.1:{port}"
    with adbc.connect(address, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT customer, page FROM lake.web.far ORDER BY page")
        assert cursor.fetch_arrow_table().to_pydict() == {
            "customer": [1, 2, 2, 3, None],
            "page": ["a", "b", "c", "d", None],
        }
