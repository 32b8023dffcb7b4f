"""Archives lie in hot and lake: what PostgreSQL deleted is there once, wherever it is by now."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table

from htapkit import failpoints
from htapkit.client import ServerUnreachable
from htapkit.lake import LakeSettings
from htapkit.testing.postgres import PostgresServer
from tests.fix_archive import agrees, archived, keeping, make, rows_at
from tests.fix_mirror import JOB_SECONDS, Mirrored, last_route

pytestmark = pytest.mark.integration

KEEP = {"on_delete": "keep"}
TABLES = {"aged": {**KEEP, "hot": "1 day"}, "bare": {**KEEP, "hot": "1 day"}, "shaped": KEEP}
CONFIGURATION = {
    "tables": {f"shop.public.{name}": asked for name, asked in {**TABLES, "died": KEEP}.items()},
    "lake": {"interval": "1 hour"},  # only what a test asks for
}


@pytest.fixture(scope="module")
def kept(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """One mirror for all tests of the module."""
    with keeping(pg, tmp_path_factory.mktemp("archive"), CONFIGURATION) as one:
        yield one


def grown_old(mirror: Mirrored, *tables: str, environment: Mapping[str, str] | None = None) -> None:
    """As if the server had run for days since rows were archived that are not every tenth."""
    for table in tables:
        assert archived(mirror, table)  # a strong read: all that is committed is there
    mirror.stack.stop()
    path = mirror.stack.config_path.parent / "data" / "hot.duckdb"
    with duckdb.connect(str(path)) as hot:
        for table in tables:
            hot.execute(
                f'UPDATE "archive.shop.public".{table} SET htapkit_deleted_at = '
                "htapkit_deleted_at - INTERVAL 3 DAY WHERE id % 10 <> 0"
            )
    mirror.stack.start(environment)
    mirror.follows(*tables)


def tier(mirror: Mirrored, *tables: str) -> Mapping[str, int]:
    """How many rows of each table moved; none named: what the schedule would move."""
    with mirror.stack.client() as client:
        names = [f"shop.public.{table}" for table in tables]
        job = client.tier(names, "1 day" if names else None)
        moved = client.wait(job["id"], timeout_seconds=JOB_SECONDS)["tables"]
    return {row["table"]: row["rows"] for row in moved}


def iceberg(mirror: Mirrored, table: str) -> Table:
    """The archive's table in the lake, as pyiceberg alone finds it."""
    settings = LakeSettings.local(mirror.stack.config_path.parent / "data")
    catalog = load_catalog(settings.name, **settings.catalog)
    return catalog.load_table(("archive", "shop%2Epublic", table))


def test_old_rows_move_to_the_lake_and_nobody_need_know(kept: Mirrored) -> None:
    make(kept, "aged", 100)
    kept.make(
        "bare",
        "create table bare (id int primary key, v text)",
        "insert into bare select g, 'v' || g from generate_series(1, 20) g",
    )
    kept.run("delete from aged where id <= 40", "delete from bare where id <= 11")
    grown_old(kept, "aged", "bare")
    # The one has no time column, so it does not move itself.
    moved = {"archive.shop.public.aged": 36, "archive.shop.public.bare": 10, "shop.public.aged": 60}
    assert tier(kept) == moved
    assert [number for (number,) in archived(kept, "bare", "id")] == list(range(1, 12))
    assert agrees(kept, "aged", route="union") == 40
    with kept.port("auto") as port:
        sql = "select count(*), count(v), sum(n) from archive.public.aged"
        rows = rows_at(port, sql)
        assert last_route(port) == "union"
        recent = datetime.now(UTC) - timedelta(hours=1)
        assert rows_at(port, f"{sql} where htapkit_deleted_at > '{recent}'")
        assert last_route(port) == "hot"
        one = "select id from archive.public.aged where htapkit_number = {}"
        numbers = "select htapkit_number, id from archive.public.aged order by 1"
        for number, key in rows_at(port, numbers)[::13]:
            assert rows_at(port, one.format(number)) == [(key,)]
        port.execute("set htapkit.as_of = '2026-01-01 00:00+00'")
        with pytest.raises(psycopg.Error, match="is an archive, which is read as it is now"):
            rows_at(port, sql)
    assert rows[0][0] == 40
    status = kept.table("aged")
    assert (status["archived_rows"], status["archived_lake_rows"]) == (40, 36)
    # What is erased leaves the lake's version, too.
    with kept.stack.client() as client:
        job = client.erase("shop.public.aged", "id between 2 and 11 or id = 38")
        assert client.wait(job["id"], timeout_seconds=JOB_SECONDS)["archived"] == 11
    left = {number for number in range(1, 41) if not (2 <= number <= 11 or number == 38)}
    assert {number for (number,) in archived(kept, "aged", "id")} == left
    ids = iceberg(kept, "aged").scan(selected_fields=("id",)).to_arrow()["id"].to_pylist()
    assert sorted(ids) == sorted(number for number in left if number % 10)


@pytest.mark.long
def test_columns_change_while_old_rows_are_in_the_lake(kept: Mirrored) -> None:
    make(kept, "shaped", 100)
    kept.run("delete from shaped where id <= 40")
    grown_old(kept, "shaped")
    assert tier(kept, "shaped")["archive.shop.public.shaped"] == 36
    fields = {field.name: field.field_id for field in iceberg(kept, "shaped").schema().fields}
    # Its columns change, its values come from the lake; and then from there and here.
    kept.run("drop trigger note on shaped")
    for change in ("rename n to m", "drop v", "add v int", "alter m type numeric(20, 2)"):
        kept.run(f"alter table shaped {change}")
        kept.looked()
        kept.follows("shaped")
    kept.run("update shaped set v = 7", "delete from shaped where id between 41 and 60")
    grown_old(kept, "shaped")
    assert tier(kept, "shaped")["archive.shop.public.shaped"] == 18
    found = archived(kept, "shaped", "id, m, v, v_text")
    with kept.database.connect() as source:
        noted = rows_at(source, "select id, n, null, v from noted.shaped where id <= 40")
    later = [(number, Decimal(number) / 4, 7, None) for number in range(41, 61)]
    assert sorted(found) == sorted(noted + later)
    there = iceberg(kept, "shaped")
    now = {field.name: field.field_id for field in there.schema().fields}
    assert [now[name] for name in ("id", "m", "v_text")] == [fields[n] for n in ("id", "n", "v")]
    assert now["v"] not in fields.values()
    rows = there.scan(selected_fields=("id", "v", "v_text")).to_arrow().to_pylist()
    assert len(rows) == len([n for n in range(1, 61) if n % 10])
    assert Counter((row["id"], row["v"], row["v_text"]) for row in rows) == Counter(
        (number, v, text) for number, _, v, text in found if number % 10
    )


@pytest.mark.long
def test_kills_while_old_rows_move(pg18: PostgresServer, tmp_path: Path) -> None:
    """Whatever it died of, each deletion is there once, in hot or in the lake."""
    with keeping(pg18, tmp_path, CONFIGURATION, preloaded=True) as kept:
        make(kept, "died", 600)
        for number, name in enumerate(failpoints.TIER):
            first = 80 * number
            kept.run(f"delete from died where id > {first} and id <= {first + 60}")
            grown_old(kept, "died", environment={"HTAPKIT_FAILPOINT": f"{name}:1"})
            with kept.stack.client() as client, suppress(ServerUnreachable):  # it dies of it
                client.tier(["shop.public.died"], "1 day")
            assert kept.stack.wait_ended(60) == -signal.SIGKILL, (name, kept.stack.log_end())
            kept.run(f"delete from died where id > {first + 60} and id <= {first + 80}")
            kept.stack.start()
            kept.follows("died")
            assert agrees(kept, "died") == first + 80, name
        tier(kept, "died")
        assert agrees(kept, "died", route="union") == 80 * len(failpoints.TIER)
        numbers = archived(kept, "died", "htapkit_number")
        assert len(set(numbers)) == len(numbers)
        found = iceberg(kept, "died").scan(selected_fields=("id",)).to_arrow()["id"].to_pylist()
        # Of a round 54 are old at once, and 18 when the next one has begun.
        assert len(found) == 54 * len(failpoints.TIER) + 18 * (len(failpoints.TIER) - 1)
