"""Parquet of others beside a mirrored table: taken row by row, once, and never against the source.

Expected rows and counts stand here; what the union is compared with is a dict of rows by key.
"""

from __future__ import annotations

import csv
import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import load_catalog

from htapkit import failpoints
from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.lake import Lake, LakeSettings
from htapkit.model import TableId, history_of
from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import wait_until
from tests.fix_mirror import JOB_SECONDS, Mirrored, fresh_database, mirrored

pytestmark = pytest.mark.integration

START = datetime(2020, 1, 1, tzinfo=UTC)
ARROW = pa.schema(
    [
        ("id", pa.int64()),
        ("at", pa.timestamp("ns", "UTC")),
        ("kind", pa.string()),
        ("amount", pa.decimal128(10, 2)),
        ("token", pa.string()),
    ]
)


_numbers = itertools.count(1)


@dataclass(frozen=True)
class Shop:
    """A mirror, and the table of one test: statements call it `events`."""

    mirror: Mirrored
    table: str

    @property
    def files(self) -> Path:
        """Where this test's files lie."""
        return self.mirror.stack.folder / "files" / self.table

    def run(self, *statements: str) -> None:
        """At the source."""
        self.mirror.run(*(each.replace("events", self.table) for each in statements))


@pytest.fixture(scope="module")
def mirror(pg18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """One server for all tests."""
    folder = tmp_path_factory.mktemp("history")
    folder.joinpath("files").mkdir()
    configuration = {
        "imports": {"folder": str(folder / "files"), "interval": "1 day"},
        "lake": {"interval": "1 day"},
        "tables": {"shop.public.kept": {"retention": "30 days"}},
    }
    with (
        fresh_database(pg18) as database,
        mirrored(database, folder, configuration=configuration) as one,
    ):
        yield one


@pytest.fixture
def shop(mirror: Mirrored) -> Shop:
    """Events 101 to 110 at the source; older ones come from files."""
    shop = Shop(mirror, f"events_{next(_numbers)}")
    shop.files.mkdir()
    shop.run(
        "CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL, kind varchar(5),"
        " amount numeric(12,2), token uuid, later int)",
        "INSERT INTO events SELECT g, '2026-01-01Z'::timestamptz, 'own', g, NULL, g"
        " FROM generate_series(101, 110) g",
    )
    mirror.follows(shop.table)
    return shop


def row(number: int, **other: Any) -> dict[str, Any]:
    """Row `number`, of its own day."""
    made = {"id": number, "at": START + timedelta(days=number), "kind": "old", "token": None}
    return made | {"amount": Decimal(number)} | other


def write(shop: Shop, name: str, *rows: dict[str, Any], schema: pa.Schema = ARROW) -> None:
    """A file below the folder."""
    path = shop.files / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)


def bring(
    shop: Shop, path: str, begin: str | None = None, end: str | None = None
) -> Mapping[str, Any]:
    """To its end."""
    with shop.mirror.stack.client() as client:
        below = f"{shop.table}/{path}"
        job = client.backfill(f"shop.public.{shop.table}", begin=begin, end=end, parquet=below)
        return client.wait(job["id"], timeout_seconds=JOB_SECONDS)


def told(done: Mapping[str, Any]) -> tuple[int, ...]:
    """Its counts."""
    names = ("added", "replaced", "unchanged", "at_source", "given_up", "outside", "rejected")
    return tuple(done[name] for name in names)


def ask(shop: Shop, sql: str) -> list[tuple[Any, ...]]:
    """At the port, with all that is committed."""
    with shop.mirror.stack.connect() as port:
        port.execute("SET htapkit.freshness = 'strong'")
        return [tuple(each) for each in port.execute(sql.replace("events", shop.table)).fetchall()]


def ids(shop: Shop) -> list[int]:
    """Of both together."""
    both = "SELECT id FROM events UNION ALL SELECT id FROM history.public.events"
    return [n for (n,) in ask(shop, f"SELECT b.id FROM ({both}) b ORDER BY b.id")]


def test_rows_come_once_and_the_source_wins(shop: Shop) -> None:
    """Added, left out, unchanged, replaced, given up; the mirrored table is never touched."""
    write(shop, "a/1.parquet", *(row(n) for n in range(1, 6)))
    write(shop, "a/2.parquet", *(row(n) for n in range(6, 11)), row(101, kind="ours"))
    assert told(bring(shop, "a")) == (10, 0, 0, 1, 0, 0, 0)
    assert ids(shop) == [*range(1, 11), *range(101, 111)]
    shop.mirror.verified(shop.table)
    first = "SELECT id, at, kind, amount, token, later FROM history.public.events ORDER BY id"
    wanted = [
        (n, START + timedelta(days=n), "old", Decimal(n).quantize(Decimal("0.01")), None, None)
        for n in range(1, 11)
    ]
    assert ask(shop, first) == wanted
    assert ask(shop, "SELECT pg_typeof(kind), pg_typeof(id) FROM events LIMIT 1") == [
        ("character varying", "integer")
    ]
    assert told(bring(shop, "a")) == (0, 0, 10, 1, 0, 0, 0)
    write(shop, "a/2.parquet", *(row(n) for n in range(6, 10)), row(10, kind="new"), row(11))
    assert told(bring(shop, "a")) == (1, 1, 9, 0, 0, 0, 0)
    assert ask(shop, "SELECT kind FROM history.public.events WHERE id = 10") == [("new",)]
    # The source gives key 3 out again: history lets go of it with the next backfill.
    shop.run("INSERT INTO events (id, at) VALUES (3, '2026-02-01Z')")
    assert told(bring(shop, "a")) == (0, 0, 10, 1, 1, 0, 0)
    assert ids(shop) == [*range(1, 12), *range(101, 111)]
    shop.mirror.verified(shop.table)


def test_a_range_of_times(shop: Shop) -> None:
    """Half-open; the rest of the file is not rejected, and comes with its own range."""
    write(shop, "1.parquet", *(row(n) for n in range(1, 31)))
    assert told(bring(shop, "1.parquet", "2020-01-11", "2020-01-21")) == (10, 0, 0, 0, 0, 20, 0)
    assert ids(shop) == [*range(10, 20), *range(101, 111)]
    assert told(bring(shop, "1.parquet", "2020-01-21")) == (11, 0, 0, 0, 0, 19, 0)
    assert ids(shop) == [*range(10, 31), *range(101, 111)]


def test_rejected_rows_have_their_reasons(shop: Shop) -> None:
    """Each bad row by file, number and column, in a file of them; the good ones come."""
    uuid = "6ecd8c99-4036-403d-bf84-cf8400f67836"
    write(
        shop,
        "bad.parquet",
        row(1),
        row(2, id=2**40),
        row(3, id=None),
        row(4, at=None),
        row(5, kind="longer than five"),
        row(6, token="no uuid"),
        row(7, token=uuid),
        row(1, kind="twice"),
        row(8, kind="a\0b"),
    )
    done = bring(shop, "bad.parquet")
    assert told(done) == (2, 0, 0, 0, 0, 0, 7)
    wanted = {2: "id", 3: "id", 4: "at", 5: "kind", 6: "token", 8: "its key", 9: "kind"}
    with Path(done["rejects"]).open() as file:
        found = {int(line["row"]): line["reason"] for line in csv.DictReader(file)}
    assert found.keys() == wanted.keys()
    assert all(found[number].startswith(word) for number, word in wanted.items()), found
    assert len(done["reasons"]) == 7
    assert ask(shop, "SELECT id, token::text FROM history.public.events ORDER BY id") == [
        (1, None),
        (7, uuid),
    ]
    # A nanosecond is not cut off.
    at = pa.array([1_600_000_000_000_000_001], pa.timestamp("ns", "UTC"))
    table = pa.table({"id": pa.array([50], pa.int64()), "at": at})
    pq.write_table(table, shop.files / "nano.parquet")
    assert told(bring(shop, "nano.parquet")) == (0, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("field", "why"),
    [
        (pa.field("strange", pa.int32()), "other columns"),
        (pa.field("amount", pa.float64()), "column amount is double"),
        (pa.field("at", pa.timestamp("us")), "column at is timestamp"),
        (None, "has no column at"),
    ],
    ids=["unknown", "float", "zoneless", "missing"],
)
def test_other_columns_are_refused(shop: Shop, field: pa.Field | None, why: str) -> None:
    """The whole file, before a row is taken."""
    fields = [f for f in ARROW if field is not None or f.name != "at"]
    if field is not None:
        fields = [f for f in fields if f.name != field.name] + [field]
    names = [f.name for f in fields]
    values = {"strange": 1, "amount": 1.0, "at": START.replace(tzinfo=None)}
    new = {} if field is None else {field.name: values[field.name]}
    made = {name: value for name, value in (row(1) | new).items() if name in names}
    write(shop, "1.parquet", made, schema=pa.schema(fields))
    with pytest.raises(ServerRefused, match=why):
        bring(shop, "1.parquet")
    with pytest.raises(psycopg.errors.UndefinedTable):
        ids(shop)


def test_what_others_took_out_stays_out(shop: Shop) -> None:
    """What must be gone is deleted by another engine; the next backfill does not bring it back."""
    write(shop, "1.parquet", row(1), row(2))
    bring(shop, "1.parquet")
    settings = LakeSettings.local(shop.mirror.stack.folder / "data")
    name = Lake.identifier(history_of(TableId("shop", "public", shop.table)))
    opened = load_catalog("htapkit", **{**settings.catalog, "warehouse": settings.warehouse})
    opened.load_table(name).delete("id = 2")
    write(shop, "2.parquet", row(3))
    assert told(bring(shop, "2.parquet")) == (1, 0, 0, 0, 0, 0, 0)
    assert ask(shop, "SELECT id FROM history.public.events ORDER BY id") == [(1,), (3,)]


def test_columns_change_at_the_source(shop: Shop) -> None:
    """One is added, one gets another name: what came before keeps its values."""
    write(shop, "1.parquet", row(1), row(2))
    bring(shop, "1.parquet")
    shop.run("ALTER TABLE events ADD COLUMN extra int", "ALTER TABLE events RENAME kind TO sort")
    shop.run("INSERT INTO events (id, at, extra) VALUES (111, '2026-01-01Z', 5)")
    wait_until(lambda: ask(shop, "SELECT max(extra) FROM events WHERE id > 110") == [(5,)], 60)
    shop.mirror.follows(shop.table)
    names = [f.with_name("sort") if f.name == "kind" else f for f in ARROW]
    schema = pa.schema([*names, ("extra", pa.int32())])
    write(shop, "2.parquet", row(1, sort="old"), row(3, sort="new", extra=7), schema=schema)
    assert told(bring(shop, "2.parquet")) == (1, 0, 1, 0, 0, 0, 0)
    rows = "SELECT id, sort, extra FROM history.public.events ORDER BY id"
    assert ask(shop, rows) == [(1, "old", None), (2, "old", None), (3, "new", 7)]


def test_a_key_that_cannot_be_compared(shop: Shop) -> None:
    """1.0 and 1.00 are one number, and two texts."""
    shop.run("DROP TABLE events")
    shop.mirror.becomes_unknown(shop.table)
    shop.run("CREATE TABLE events (id numeric PRIMARY KEY, at timestamptz NOT NULL)")
    shop.mirror.follows(shop.table)
    schema = pa.schema([("id", pa.string()), ARROW.field("at")])
    write(shop, "1.parquet", {"id": "1.0", "at": START}, schema=schema)
    with pytest.raises(ServerRefused, match="takes no history"):
        bring(shop, "1.parquet")


def test_only_below_the_folder(shop: Shop) -> None:
    """Neither out of it, nor what is not there."""
    for path in ("../../htapkit.yaml", "/etc/passwd", "nothing.parquet"):
        with pytest.raises(ServerRefused, match="no such file"):
            bring(shop, path)


@pytest.mark.parametrize("place", failpoints.HISTORY)
def test_killed_and_repeated(shop: Shop, place: str) -> None:
    """After a kill at each place a repeat gives each row once."""
    write(shop, "1.parquet", row(1), row(2))
    bring(shop, "1.parquet")
    write(shop, "1.parquet", row(1), row(2, kind="new"), row(3))
    shop.mirror.stack.stop()
    shop.mirror.stack.start({"HTAPKIT_FAILPOINT": f"{place}:1"})
    shop.mirror.stack.wait_ready()
    with shop.mirror.stack.client() as client, suppress(ServerUnreachable):  # it dies of it
        client.backfill(f"shop.public.{shop.table}", parquet=f"{shop.table}/1.parquet")
    shop.mirror.stack.wait_ended(60)
    shop.mirror.stack.start()
    shop.mirror.stack.wait_ready()
    bring(shop, "1.parquet")
    rows = "SELECT id, kind FROM history.public.events ORDER BY id"
    assert ask(shop, rows) == [(1, "old"), (2, "new"), (3, "old")]
    assert ids(shop) == [1, 2, 3, *range(101, 111)]


def test_who_may_read_the_table_may_read_its_history(shop: Shop) -> None:
    """Column by column, as the source has it."""
    write(shop, "1.parquet", row(1))
    bring(shop, "1.parquet")
    shop.run("CREATE ROLE history_guest", "GRANT SELECT (id) ON events TO history_guest")
    try:
        with shop.mirror.stack.connect() as port:
            port.execute("SET ROLE history_guest")
            history = f"history.public.{shop.table}"
            assert port.execute(f"SELECT id FROM {history}").fetchall() == [(1,)]
            with pytest.raises(psycopg.Error, match="permission denied"):
                port.execute(f"SELECT kind FROM {history}")
    finally:
        shop.run("DROP OWNED BY history_guest", "DROP ROLE history_guest")


def test_below_a_horizon_the_source_is_asked(mirror: Mirrored) -> None:
    """The copy lacks its old rows, and they are the source's all the same."""
    shop = Shop(mirror, "kept")
    shop.files.mkdir()
    shop.run(
        "CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL)",
        "INSERT INTO events VALUES (1, '2020-01-02Z'), (2, now())",
    )
    mirror.follows(shop.table)
    with mirror.stack.client() as client:
        client.wait(client.retain(["shop.public.kept"])["id"], timeout_seconds=JOB_SECONDS)
    with shop.mirror.port("hot") as port:
        assert port.execute("SELECT id FROM kept").fetchall() == [(2,)]
    rows = [{"id": n, "at": row(n)["at"]} for n in (1, 2, 3)]
    write(shop, "1.parquet", *rows, schema=pa.schema([ARROW.field("id"), ARROW.field("at")]))
    assert told(bring(shop, "1.parquet")) == (1, 0, 0, 2, 0, 0, 0)


def test_a_restored_server_has_it(pg18: PostgresServer, tmp_path: Path) -> None:
    """Its rows are those of before, though the place of before is gone; a backfill goes on."""
    (tmp_path / "files").mkdir()
    configuration = {
        "imports": {"folder": str(tmp_path / "files"), "interval": "1 day"},
        "lake": {"interval": "1 day"},
    }
    rows = "SELECT id, at, kind, amount, token, later FROM history.public.events ORDER BY id"
    with fresh_database(pg18) as database:
        with mirrored(database, tmp_path / "first", configuration=configuration) as mirror:
            shop = Shop(mirror, "events_of_before")
            (tmp_path / "files" / shop.table).mkdir()
            (tmp_path / "first" / "files").symlink_to(tmp_path / "files")
            shop.run(
                "CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL, kind text,"
                " amount numeric(12,2), token uuid, later int)",
                "INSERT INTO events VALUES (101, '2026-01-01Z')",
            )
            mirror.follows(shop.table)
            write(shop, "1.parquet", *(row(n) for n in range(1, 6)))
            bring(shop, "1.parquet")
            wanted = ask(shop, rows)
            with mirror.stack.client() as client:
                job = client.backup(str(tmp_path / "backup"))
                client.wait(job["id"], timeout_seconds=JOB_SECONDS)
            write(shop, "2.parquet", row(6))
            bring(shop, "2.parquet")
        shutil.rmtree(tmp_path / "first" / "data")
        with mirrored(
            database, tmp_path / "second", configuration=configuration, start=False
        ) as mirror:
            (tmp_path / "second" / "files").symlink_to(tmp_path / "files")
            config = str(mirror.stack.config_path)
            command = [sys.executable, "-m", "htapkit", "restore", str(tmp_path / "backup")]
            subprocess.run([*command, "--config", config], timeout=JOB_SECONDS, check=True)
            mirror.stack.start()
            mirror.stack.wait_ready()
            shop = Shop(mirror, "events_of_before")
            assert len(wanted) == 5
            assert ask(shop, rows) == wanted
            assert told(bring(shop, "1.parquet")) == (0, 0, 5, 0, 0, 0, 0)
            assert told(bring(shop, "2.parquet")) == (1, 0, 0, 0, 0, 0, 0)
            assert ids(shop) == [*range(1, 7), 101]
