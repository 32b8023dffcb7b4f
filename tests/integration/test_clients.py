"""Real clients through the port, each with local answers; PostgreSQL's own answer is the reference.

Each runs twice: on a port whose local answers come from PostgreSQL over a second connection, and
on a whole htapkit, where they come from the copy.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import Stack, wait_until
from tests.fix_mirror import hot_answers
from tests.integration.pgwire_fakes import serving

pytestmark = pytest.mark.integration
CLIENTS = Path(__file__).parent / "clients"
SETUP = """create table ev (id int primary key, ts timestamp, name text, val float8, ok bool);
insert into ev select g, timestamp '2024-01-01' + g * interval '1 s', 'device-' || g, g * 0.37,
g % 2 = 0 from generate_series(1, 3000) g; create table taken (id int primary key, name text)"""


@dataclass(frozen=True)
class Port:
    """Where clients connect, and the database behind it."""

    number: int
    reads: Callable[[], int]
    database: Database
    slow: str  # a statement that is answered here, and takes for ever

    @property
    def url(self) -> str:
        """For libpq and those that read the same; what waits for the copy has time for it."""
        waits = "options=-c%20htapkit.wait_timeout%3D60s"
        return f"postgresql://postgres@127.0.0.1:{self.number}/shop?{waits}"

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection:
        """By psycopg."""
        return psycopg.connect(self.url, autocommit=autocommit)


PLACES = [("fakes", 16), ("fakes", 18), ("stack", 16), ("stack", 18)]


@pytest.fixture(scope="module", params=PLACES, ids=[f"{kind}-pg{v}" for kind, v in PLACES])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Port]:
    kind, version = request.param
    server: PostgresServer = request.getfixturevalue(f"pg{version}")
    server.start()
    database = Database(server, f"clients_{kind}")
    database.execute(SETUP)
    try:
        if kind == "fakes":
            with serving(database.dsn) as (port, fake):
                slow = "/*hot*/ select count(*) from generate_series(1, 500000000) g"
                yield Port(port.port, lambda: fake.reads, database, slow)
        else:
            sources = {"shop": {"dsn": database.dsn, "tables": ["public.*"]}}
            with Stack(tmp_path_factory.mktemp("clients"), sources) as stack:
                stack.wait_ready()
                slow = "select count(*) from ev a, ev b, ev c where a.id + b.id < c.id"
                yield Port(stack.port, lambda: hot_answers(stack.http_port), database, slow)
    finally:
        database.drop()


@pytest.fixture
def port(place: Port) -> Port:
    return place


@pytest.fixture
def here(port: Port) -> Callable[[int], None]:
    """Says how many answers, at least, must have been local."""
    before = port.reads()

    def check(count: int) -> None:
        assert port.reads() - before >= count

    return check


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def route(connection: psycopg.Connection) -> str:
    row = connection.execute("show htapkit.last_route").fetchone()
    assert row is not None
    return str(row[0])


HOT = "/*hot*/ select id, ts, name, val, ok from ev where id < 40 order by id"


def both(port: Port, *commands: str) -> tuple[str, str]:
    """What psql prints here and there."""
    database = port.database
    at = [str(database.server.psql), "-X", "-U", "postgres", "-h", "127.0.0.1"]
    said = [each for command in commands for each in ("-c", command)]
    ours = run(*at, "-p", str(port.number), *said, "shop")
    there = run(*at, "-p", str(database.server.port), *said, database.name)
    return ours, there


def test_psql(port: Port, here: Callable[[int], None]) -> None:
    for text in ("\\d ev", "\\dt", "\\d+ ev", "\\df pg_catalog.now", HOT, "\\copy ev to stdout"):
        ours, there = both(port, text)
        assert ours == there
    here(1)


def test_psql_copies_in_and_sees_it(
    port: Port, tmp_path: Path, here: Callable[[int], None]
) -> None:
    rows = tmp_path / "rows"
    rows.write_text("".join(f"{i}\tname {i}\n" for i in range(500)))
    sql = "/*hot*/ select count(*), sum(id) from taken"
    at = [str(port.database.server.psql), "-X", "-A", "-t"]
    said = ["-c", f"\\copy taken from '{rows}'", "-c", sql, "-c", "show htapkit.last_route"]
    out = run(*at, *said, "-c", "truncate taken", "-c", sql, port.url)
    assert out.splitlines() == ["COPY 500", "500|124750", "hot", "TRUNCATE TABLE", "0|"]
    here(2)


def test_ctrl_c_in_psql_stops_a_local_read(port: Port) -> None:
    before = port.reads()
    command = [str(port.database.server.psql), "-X", "-h", "127.0.0.1", "-p", str(port.number)]
    psql = subprocess.Popen(
        [*command, "-U", "postgres", "-c", port.slow, "shop"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: port.reads() == before + 1, 60)
    begun = time.monotonic()
    while True:  # a Ctrl-C before the read has begun stops nothing
        psql.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            _, errors = psql.communicate(timeout=1)
            break
        assert time.monotonic() - begun < 60
    assert "canceling statement due to user request" in errors
    with port.connect() as c:
        assert c.execute("/*hot*/ select count(*) from ev").fetchone() == (3000,)
        assert route(c) == "hot"


def test_psycopg(port: Port) -> None:
    with port.connect() as c, port.database.connect() as there:
        for binary in (False, True):
            rows = c.execute(HOT, binary=binary).fetchall()
            assert rows == there.execute(HOT, binary=binary).fetchall()
            assert route(c) == "hot"
        text = "/*hot*/ select count(*), sum(val) from ev where id <= %s"
        for number in range(1, 9):
            for binary in (False, True):
                row = c.execute(text, (number,), prepare=True, binary=binary).fetchone()
                assert row is not None
                assert row[0] == number
                assert route(c) == "hot"
        with c.cursor() as cursor:
            streamed = list(cursor.stream("/*hot*/ select id, name from ev order by id"))
        assert [row[0] for row in streamed] == list(range(1, 3001))
        assert route(c) == "hot"


def test_psycopg_transactions(port: Port) -> None:
    text = "/*hot*/ select count(*) from taken"
    with port.connect(autocommit=False) as c:
        assert c.execute(text).fetchone() == (0,)
        assert route(c) == "hot"
        assert c.execute("/*hot*/ select count(*) from ev", prepare=True).fetchone() == (3000,)
        assert route(c) == "hot"
        c.execute("insert into taken values (1, 'a')")
        assert c.execute(text).fetchone() == (1,)
        assert route(c) == "source"
        c.commit()
        assert c.execute(text).fetchone() == (1,)
        assert route(c) == "hot"
        c.execute("truncate taken")
        c.rollback()
        with c.cursor("named") as cursor:
            cursor.execute("select id from ev order by id")
            assert len(cursor.fetchmany(700)) == 700
            assert len(cursor.fetchall()) == 2300
        c.execute("delete from taken")
        c.commit()
        with c.pipeline():
            one = c.execute("/*hot*/ select count(*) from ev")
            two = c.execute("insert into taken values (2, 'b') returning id")
            three = c.execute(text)
            assert (one.fetchone(), two.fetchone(), three.fetchone()) == ((3000,), (2,), (1,))
        c.rollback()
        assert c.execute(text).fetchone() == (0,)


def test_asyncpg(port: Port, here: Callable[[int], None]) -> None:
    asyncpg = pytest.importorskip("asyncpg")

    async def talk() -> None:
        c = await asyncpg.connect(port.url)
        try:
            text = "select sum(id) as s, max(ts) as t, count(*) as n from ev where id <= $1"
            there = await asyncpg.connect(port.database.dsn)
            for number in range(7):
                found = await c.fetchrow("/*hot*/ " + text, number)
                assert found == await there.fetchrow(text, number)
                assert await c.fetchval("show htapkit.last_route") == "hot"
            await there.close()
            async with c.transaction():
                cursor = c.cursor("/*hot*/ select id from ev order by id", prefetch=100)
                assert [row[0] async for row in cursor] == list(range(1, 3001))
        finally:
            await c.close()

    asyncio.run(talk())
    here(8)


def test_sqlalchemy(port: Port, here: Callable[[int], None]) -> None:
    sa = pytest.importorskip("sqlalchemy")
    engine = sa.create_engine(port.url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        inspector = sa.inspect(engine)
        assert set(inspector.get_table_names()) == {"ev", "taken"}
        assert next(iter(inspector.get_columns("ev")))["name"] == "id"
        with engine.connect() as c:
            assert c.execute(sa.text("/*hot*/ select count(*) from ev")).scalar() == 3000
            assert c.execute(sa.text("show htapkit.last_route")).scalar() == "hot"
    finally:
        engine.dispose()
    here(1)


@pytest.mark.parametrize("copy", ["true", "false"])
def test_adbc(port: Port, copy: str, here: Callable[[int], None]) -> None:
    dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi")
    tables = []
    for url in (port.url, port.database.dsn):
        with dbapi.connect(url) as c, c.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": copy})
            cursor.execute(
                "/*hot*/ select id, ts, name, val, ok from ev where id < 100 order by id"
            )
            tables.append(cursor.fetch_arrow_table())
    assert tables[0].num_rows == 99
    assert tables[0].equals(tables[1])
    here(1 if copy == "false" else 0)


def test_pgjdbc(port: Port, tmp_path: Path, here: Callable[[int], None]) -> None:
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or maven is None:
        pytest.skip("java or mvn is not installed")
    jar = tmp_path / "postgresql-42.7.7.jar"
    command = [maven, "-q", "dependency:copy", "-Dartifact=org.postgresql:postgresql:42.7.7"]
    got = subprocess.run(
        [*command, f"-DoutputDirectory={tmp_path}"], capture_output=True, timeout=240, check=False
    )
    if got.returncode or not jar.exists():
        pytest.skip("the pgjdbc jar cannot be had here")
    for threshold in (1, 5):
        url = f"jdbc:postgresql://127.0.0.1:{port.number}/shop?sslmode=disable"
        out = run(
            *(java, "-cp", str(jar), str(CLIENTS / "Jdbc.java")),
            f"{url}&prepareThreshold={threshold}",
        )
        expected = (
            "select 2.59 hot,prepared 120 hot,cursor 3000 hot,savepoint 1,columns 5,primary id"
        )
        assert out.splitlines() == expected.split(",")
    here(20)


def test_node(port: Port, tmp_path: Path, here: Callable[[int], None]) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node or npm is not installed")
    install = [npm, "install", "--silent", "--prefix", str(tmp_path), "pg@8"]
    got = subprocess.run(install, capture_output=True, timeout=240, check=False)
    if got.returncode:
        pytest.skip("the npm package pg cannot be had here")
    script = tmp_path / "client.js"
    script.write_text((CLIENTS / "client.js").read_text())
    out = run(node, str(script), str(port.number)).splitlines()
    assert out == ["3000 hot", "device-5 hot", "[1,3,6]"]
    here(5)
