"""Exports: what a statement gives, in a file that is there as a whole or not at all.

PostgreSQL is the oracle: a CSV file is copied back into it, a Parquet or Iceberg table is compared
with what the source has.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyiceberg.catalog import load_catalog

from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.config import load_config
from htapkit.errors import ConfigError
from htapkit.testing.postgres import PostgresServer, free_port
from htapkit.testing.stack import wait_until
from tests.fix_mirror import JOB_SECONDS, Mirrored, fresh_database, mirrored

pytestmark = pytest.mark.integration

MAKE = """
    CREATE TABLE kinds (
        id int PRIMARY KEY, at timestamptz NOT NULL, small int2, big int8, ok bool, real float4,
        dbl float8, exact numeric(12,2), free numeric, name text, fixed char(4), day date,
        clock time, local timestamp, raw bytea, doc jsonb, uid uuid, span interval, tags text[]
    )"""
ROWS = """
    INSERT INTO kinds VALUES
    (1, '2026-01-01 00:00Z', 1, 9223372036854775807, true, 1.5, 0.1, 1.10, 1.100,
     'a,"b"' || chr(10) || 'c', 'x', '2026-01-31', '12:34:56.789', '2026-01-01 10:00', '\\x00ff',
     '{"a": 1}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '1 day 02:03', '{a,NULL,"b c"}'),
    (2, '2026-01-31 23:59:59.999999Z', -1, 0, false, 'NaN', '-Infinity', 0.00, 'NaN', '', '',
     'infinity', '24:00', '-infinity', '', 'null', NULL, '-1 mon', '{}'),
    (3, '2026-02-01 00:00Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"""


@pytest.fixture(scope="module")
def shop(pg18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """One mirror; its exports go to `folder/out`."""
    folder = tmp_path_factory.mktemp("export")
    configuration = {
        "exports": {"folder": "out"},
        "servers": {"http": {"listen": f"127.0.0.1:{free_port()}"}},
        "tables": {"shop.public.moved": {"hot": "10 days"}},
        "lake": {"interval": "1 day"},
    }
    with (
        fresh_database(pg18) as database,
        mirrored(database, folder, configuration=configuration, start=False) as one,
    ):
        one.run(MAKE, ROWS)
        one.run(
            "CREATE TABLE moved (id int PRIMARY KEY, at timestamptz NOT NULL, total numeric(9,2))",
            "INSERT INTO moved SELECT g, '2026-01-01Z'::timestamptz + g * interval '1 hour', "
            "g / 4.0 FROM generate_series(0, 999) g",
        )
        one.stack.start()
        one.stack.wait_ready()
        yield one


def out(shop: Mirrored, name: str) -> Path:
    """A file of the exports."""
    return shop.stack.folder / "out" / name


def export(shop: Mirrored, path: str, **arguments: Any) -> Mapping[str, Any]:
    """Through the API, to its end."""
    with shop.stack.client() as client:
        job = client.export(path, **arguments)
        return client.wait(job["id"], timeout_seconds=JOB_SECONDS)


def test_csv_comes_back_into_postgresql_as_it_was(shop: Mirrored) -> None:
    """Every type, NULL and the empty text, both infinities: COPY reads the same rows."""
    done = export(shop, "kinds.csv", table="shop.public.kinds", format="csv")
    assert (done["rows"], done["route"]) == (3, "hot")
    text = out(shop, "kinds.csv").read_bytes()
    with shop.database.connect() as source:
        source.execute("CREATE TEMP TABLE back (LIKE kinds)")
        with source.cursor().copy("COPY back FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write(text)
        rows = [
            source.execute(f"SELECT id, {table}::text FROM {table} ORDER BY id").fetchall()
            for table in ("kinds", "back")
        ]
    assert len(rows[0]) == 3
    assert [r[1] for r in rows[0]] == [r[1] for r in rows[1]]


def test_what_the_source_alone_prints(shop: Mirrored) -> None:
    """Names of the catalog, and money, are in the file as the source says them."""
    sql = "SELECT id, '12.5'::money AS m, 'kinds'::regclass AS r FROM kinds WHERE id = 1"
    done = export(shop, "printed.csv", sql=sql, format="csv")
    assert (done["rows"], done["route"]) == (1, "source")
    with shop.database.connect() as source:
        told = source.execute(f"SELECT id::text, m::text, r::text FROM ({sql}) AS t").fetchall()
    header, line = out(shop, "printed.csv").read_text().splitlines()
    assert header == '"id","m","r"'
    assert line == ",".join(f'"{each}"' for each in told[0])


def test_parquet_has_exact_types(shop: Mirrored) -> None:
    """Decimals stay decimals; what has no exact type is text as PostgreSQL prints it."""
    done = export(shop, "a/b/kinds.parquet", sql="SELECT * FROM kinds ORDER BY id")
    path = out(shop, "a/b/kinds.parquet")
    table = pq.read_table(path)
    assert done["bytes"] == path.stat().st_size
    types = dict(zip(table.schema.names, table.schema.types, strict=True))
    assert types["exact"] == pa.decimal128(12, 2)
    assert types["at"] == pa.timestamp("us", "UTC")
    assert types["raw"] == pa.binary()
    assert [str(types[name]) for name in ("free", "doc", "uid", "span", "tags")] == ["string"] * 5
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["exact"], first["free"]) == (Decimal("1.10"), "1.100")
    assert (first["at"], first["day"]) == (datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 31))
    assert (first["raw"], first["doc"]) == (b"\x00\xff", '{"a": 1}')
    assert first["tags"] == '{a,NULL,"b c"}'
    said = pq.read_schema(path).metadata
    assert said[b"htapkit.sql"] == b"SELECT * FROM kinds ORDER BY id"
    assert said[b"htapkit.position"].decode() == done["position"] != ""


def test_a_range_of_a_table_is_half_open_and_repeated_it_is_the_same(shop: Mirrored) -> None:
    """One interval, one file: again it takes the file's place; later rows of it are in."""
    span = {"table": "shop.public.kinds", "begin": "2026-01-01", "end": "2026-02-01"}
    for _ in range(2):
        assert export(shop, "month.parquet", **span)["rows"] == 2
    shop.run("INSERT INTO kinds (id, at) VALUES (4, '2026-01-15Z')")
    try:
        assert export(shop, "month.parquet", **span)["rows"] == 3  # committed before it began
    finally:
        shop.run("DELETE FROM kinds WHERE id = 4")
    assert pq.read_table(out(shop, "month.parquet"))["id"].to_pylist() == [1, 2, 4]
    assert sorted(p.name for p in out(shop, "").iterdir() if p.name.startswith("month")) == [
        "month.parquet"
    ]


def test_rows_of_hot_and_lake(shop: Mirrored) -> None:
    """One export reads both sides at one boundary."""
    with shop.stack.client() as client:
        job = client.tier(["shop.public.moved"], "10 days")
        client.wait(job["id"], timeout_seconds=JOB_SECONDS)
    shop.run("UPDATE moved SET total = -1 WHERE id % 100 = 7")
    shop.follows("moved")
    done = export(shop, "moved.parquet", sql="SELECT id, total FROM moved")
    assert done["route"] in {"union", "lake"}
    rows = pq.read_table(out(shop, "moved.parquet")).sort_by("id")
    with shop.database.connect() as source:
        expected = source.execute("SELECT id, total FROM moved ORDER BY id").fetchall()
    assert list(zip(*(c.to_pylist() for c in rows.columns), strict=True)) == expected


def test_an_iceberg_table_is_replaced_in_one_commit(shop: Mirrored) -> None:
    """Other engines read it; the version before is another snapshot of it."""
    for wanted in (1000, 10):
        sql = f"SELECT id, total, 1::int2 AS small FROM moved WHERE id < {wanted}"
        done = export(shop, "moved_copy", sql=sql, format="iceberg")
        data = shop.stack.folder / "data"
        catalog = load_catalog("htapkit", type="sql", uri=f"sqlite:///{data}/catalog.db")
        table = catalog.load_table("exports.moved_copy")
        rows = table.scan().to_arrow()
        assert done["rows"] == rows.num_rows == wanted
        assert rows.schema.field("total").type == pa.decimal128(9, 2)
        snapshot = table.current_snapshot()
        assert snapshot is not None
        assert snapshot.summary is not None
        assert snapshot.summary.additional_properties["htapkit.sql"] == sql
        catalog.close()
    with pytest.raises(ServerRefused, match="has other columns"):
        export(shop, "moved_copy", sql="SELECT id FROM moved", format="iceberg")


def test_what_the_copy_does_not_have_comes_from_the_source(shop: Mirrored) -> None:
    """Any SELECT, under a session that can change nothing."""
    done = export(shop, "relayed.csv", sql="SELECT version() AS v", format="csv")
    assert (done["rows"], done["route"], done["position"]) == (1, "source", "")
    for sql, why in (
        ("DELETE FROM kinds RETURNING id", "read-only transaction"),
        ("SELECT set_config('transaction_read_only', 'off', false)", "there is no session"),
        ("SELECT 1 / 0 AS x", "division by zero"),
        ("SELECT * FROM nowhere", "does not exist"),
        ("DROP TABLE kinds", "that gives rows"),
        ("SELECT $1::int AS x", "has parameters"),
        ("SELECT 1 AS a, 2 AS a", "several columns are called a"),
        ("SELECT 1 AS a; SELECT 2 AS a", "multiple commands"),
    ):
        with pytest.raises(ServerRefused, match=why):
            export(shop, "refused.csv", sql=sql, format="csv")
        assert not out(shop, "refused.csv").exists(), sql
    with shop.database.connect() as source:
        assert source.execute("SELECT count(*) FROM kinds").fetchone() == (3,)


@pytest.mark.parametrize(
    "path",
    ["../x.csv", "/etc/x.csv", "a/../x.csv", ".hidden.csv", "a//x.csv", "", "a\0.csv", "~/x"],
)
def test_nothing_is_written_outside_the_folder(shop: Mirrored, path: str) -> None:
    """By name; the next test: by a link."""
    with pytest.raises(ServerRefused, match="name of a file below"):
        export(shop, path, sql="SELECT 1 AS a", format="csv")


def test_a_link_out_of_the_folder_is_not_followed(shop: Mirrored, tmp_path: Path) -> None:
    """Neither a folder's nor, because the new file takes its place, a file's."""
    export(shop, "here.csv", sql="SELECT 1 AS a", format="csv")
    out(shop, "away").symlink_to(tmp_path)
    with pytest.raises(ServerRefused, match="leads out"):
        export(shop, "away/new/x.csv", sql="SELECT 1 AS a", format="csv")
    assert list(tmp_path.iterdir()) == []
    victim = tmp_path / "victim"
    victim.write_text("mine")
    out(shop, "link.csv").symlink_to(victim)
    export(shop, "link.csv", sql="SELECT 1 AS a", format="csv")
    assert victim.read_text() == "mine"
    assert out(shop, "link.csv").read_text() == '"a"\n"1"\n'


def test_the_command(shop: Mirrored) -> None:
    """What a person types and sees."""

    def htapkit(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "htapkit", "export", *arguments]
        return subprocess.run(
            command, cwd=shop.stack.folder, capture_output=True, text=True, timeout=240, check=False
        )

    shown = htapkit("SELECT id FROM kinds", "typed.csv")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("typed.csv: 3 rows, hot ")
    told = htapkit("typed.parquet", "--table", "kinds", "--to", "2026-02-01", "--json")
    assert json.loads(told.stdout)["rows"] == 2
    parts = ["typed", "--table", "kinds", "--from", "2026-01-01", "--to", "2026-02-01"]
    assert htapkit(*parts, "--parts", "month").stdout == "typed: 2 rows in 1 files\n"
    assert htapkit(*parts[:3], "--parts", "month").returncode == 2
    for wrong in (["x.csv"], ["SELECT 1", "x.csv", "--table", "kinds"], ["SELECT 1", "x.txt"]):
        assert htapkit(*wrong).returncode == 2, wrong


def test_a_crash_leaves_no_file_and_the_repeat_says_so(shop: Mirrored) -> None:
    """Killed while rows come: the older file is whole; the repeat clears what was left."""
    export(shop, "crash.csv", sql="SELECT 0 AS g", format="csv")
    endless = "SELECT generate_series(1, 1000000000) AS g"
    with shop.stack.client() as client:
        job = client.export("crash.csv", sql=endless, format="csv")
        wait_until(lambda: client.job(job["id"])["done"] > 0, 60)
    shop.stack.kill()
    assert out(shop, "crash.csv").read_text() == '"g"\n"0"\n'
    shop.stack.start()
    shop.stack.wait_ready()
    done = export(shop, "crash.csv", sql="SELECT 1 AS g", format="csv")
    assert done["started_anew"]
    assert out(shop, "crash.csv").read_text() == '"g"\n"1"\n'
    assert not list(out(shop, "").glob(".crash*"))


def test_parts_go_on_where_they_were_cut_off(shop: Mirrored) -> None:
    """Killed after the third of five: the repeat keeps what is listed; all rows are there once."""
    span = {"table": "shop.public.moved", "begin": "2026-01-05", "end": "2026-01-09T12:00"}
    folder = out(shop, "parts/moved")
    shop.stack.stop()
    shop.stack.start({"HTAPKIT_FAILPOINT": "export.part:3"})
    shop.stack.wait_ready()
    with shop.stack.client() as client, suppress(ServerUnreachable):  # it dies of it
        client.export_parts("parts/moved", "day", **span)
    assert shop.stack.wait_ended(60) == -signal.SIGKILL
    names = [f"2026-01-0{day}.parquet" for day in range(5, 10)]
    assert sorted(p.name for p in folder.iterdir()) == [*names[:3], "_parts.json"]
    left = json.loads((folder / "_parts.json").read_text())
    assert (left["complete"], list(left["done"])) == (False, names[:2])
    (folder / names[0]).unlink()
    kept = (folder / names[1]).stat().st_ino
    shop.stack.start()
    shop.stack.wait_ready()

    def repeat() -> tuple[int, ...]:
        with shop.stack.client() as client:
            job = client.export_parts("parts/moved", "day", **span)
            done = client.wait(job["id"], timeout_seconds=JOB_SECONDS)
        return done["parts"], done["kept"], done["rows"]

    assert repeat() == (5, 1, 108)
    assert (folder / names[1]).stat().st_ino == kept
    said = json.loads((folder / "_parts.json").read_text())
    assert said["complete"]
    assert all(part["position"] for part in said["done"].values())
    assert [pq.read_table(folder / name).num_rows for name in names] == [24, 24, 24, 24, 12]
    rows = pa.concat_tables(pq.read_table(folder / name) for name in names).sort_by("id")
    with shop.database.connect() as source:
        sql = "SELECT * FROM moved WHERE at >= '2026-01-05Z' AND at < '2026-01-09 12:00Z'"
        expected = source.execute(f"{sql} ORDER BY id").fetchall()
    assert list(zip(*(c.to_pylist() for c in rows.columns), strict=True)) == expected
    assert repeat() == (5, 0, 108), "a complete one is made anew"
    assert (folder / names[1]).stat().st_ino != kept
    with shop.stack.client() as client, pytest.raises(ServerRefused, match="parts go with a table"):
        client._call("POST", "/api/v1/export", {"path": "x", "sql": "SELECT 1", "parts": "day"})


def test_stopping_the_server_ends_an_export(shop: Mirrored) -> None:
    """Soon, and with nothing left of it."""
    endless = "SELECT generate_series(1, 1000000000) AS g"
    with shop.stack.client() as client:
        job = client.export("stopped.csv", sql=endless, format="csv")
        wait_until(lambda: client.job(job["id"])["done"] > 0, 60)
    shop.stack.stop()
    assert not list(out(shop, "").glob("*stopped*"))
    shop.stack.start()
    shop.stack.wait_ready()


def test_rights_are_those_of_the_configured_user(
    pg18: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A column that it may not read is not written, whoever asks; nor without `exports` at all."""
    folder = tmp_path_factory.mktemp("rights")
    exports = {"folder": "out", "user": "reporter", "password": "pw"}
    with fresh_database(pg18) as database, database.connect() as source:
        source.execute("CREATE TABLE t (id int PRIMARY KEY, secret text)")
        source.execute("INSERT INTO t VALUES (1, 's')")
        source.execute("CREATE ROLE reporter LOGIN PASSWORD 'pw'")
        source.execute("GRANT SELECT (id) ON t TO reporter")
        try:
            with mirrored(database, folder, configuration={"exports": exports}) as shop:
                shop.stack.wait_ready()
                assert export(shop, "t.csv", sql="SELECT id FROM t", format="csv")["route"] == "hot"
                with pytest.raises(ServerRefused, match="permission denied"):
                    export(shop, "t.csv", sql="SELECT secret FROM t", format="csv")
            document = yaml.safe_load(shop.stack.config_path.read_text())
            del document["exports"]
            shop.stack.config_path.write_text(yaml.safe_dump(document))
            shop.stack.start()
            with pytest.raises(ServerRefused, match=r"exports\.folder is not set"):
                export(shop, "t.csv", sql="SELECT id FROM t", format="csv")
            shop.stack.stop()
        finally:
            source.execute("DROP OWNED BY reporter")
            source.execute("DROP ROLE reporter")


def test_the_folder_may_not_hold_the_copy(tmp_path: Path) -> None:
    """Else an export could take the place of the store itself."""
    path = tmp_path / "htapkit.yaml"
    for folder in (".", "data", "data/out", "../" + tmp_path.name):
        document = {"data_dir": "data", "exports": {"folder": folder}}
        document["sources"] = {"shop": {"connector": "postgres", "dsn": "x"}}
        path.write_text(yaml.safe_dump(document))
        with pytest.raises(ConfigError, match="must not lie in one another"):
            load_config(path)
