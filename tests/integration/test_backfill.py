"""A range that went wrong in the copy is read again: what differs is corrected, at one position.

Damage is done behind the store's back, in its file, while the server is down; `verify`, which
reads everything, says what is wrong and what is right.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import duckdb
import pytest

from htapkit import failpoints
from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import wait_until
from tests.fix_mirror import JOB_SECONDS, Mirrored, fresh_database, mirrored

pytestmark = pytest.mark.integration

TABLE = "shop.public.events"
HOT = '"shop.public"."events"'
DAMAGE = (
    f"DELETE FROM {HOT} WHERE id IN (901, 902)",  # missing
    f"UPDATE {HOT} SET kind = 'wrong' WHERE id = 903",  # different
    # Surplus; elsewhere in time; only seemingly in the range.
    f'INSERT INTO {HOT} SELECT 5000, "at", kind, amount, big FROM {HOT} WHERE id = 904',
    f'UPDATE {HOT} SET "at" = "at" + INTERVAL 100 DAY WHERE id = 905',
    f"UPDATE {HOT} SET \"at\" = TIMESTAMPTZ '2026-02-07 12:00Z' WHERE id = 990",
)


@pytest.fixture
def shop(pg18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """A table of 1,000 rows, one an hour from 2026 on."""
    configuration = {"tables": {TABLE: {"partition": "day"}}, "lake": {"interval": "1 day"}}
    folder = tmp_path_factory.mktemp("backfill")
    with (
        fresh_database(pg18) as database,
        mirrored(database, folder, configuration=configuration, start=False) as one,
    ):
        one.run(
            "CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL, kind text, "
            "amount numeric(12,2), big text)",
            "CREATE TABLE plain (a int)",
            "ALTER TABLE plain REPLICA IDENTITY FULL",
            "INSERT INTO events SELECT g, '2026-01-01Z'::timestamptz + g * interval '1 hour', "
            "'k' || g % 5, g / 7.0, repeat(md5(g::text), 100) FROM generate_series(1, 1000) g",
        )
        one.stack.start()
        one.stack.wait_ready()
        yield one


def damage(shop: Mirrored, *statements: str) -> None:
    """Change rows of the copy that nobody knows of."""
    shop.stack.stop()
    with duckdb.connect(str(shop.stack.folder / "data" / "hot.duckdb")) as file:
        for statement in statements:
            file.execute(statement)
    shop.stack.start()
    shop.stack.wait_ready()


def backfill(shop: Mirrored, begin: str | None = None, end: str | None = None) -> Mapping[str, Any]:
    """Through the API, to its end."""
    with shop.stack.client() as client:
        job = client.backfill(TABLE, begin=begin, end=end)
        return client.wait(job["id"], timeout_seconds=JOB_SECONDS)


def wrong(shop: Mirrored) -> bool:
    """Whether `verify` finds a difference."""
    with shop.stack.client() as client:
        return not client.verify([TABLE])["equal"]


def counted(done: Mapping[str, Any]) -> tuple[int, int, int]:
    """What a backfill has changed."""
    return done["missing"], done["different"], done["surplus"]


def test_a_damaged_range_is_mended_and_nothing_else(shop: Mirrored) -> None:
    """Only rows of the range count, by the time that either side says they have."""
    damage(shop, *DAMAGE, f"UPDATE {HOT} SET kind = 'outside' WHERE id = 10")
    done = backfill(shop, "2026-02-07", "2026-02-08")
    # Ids 888 to 911 are of that day; 990 was put into it.
    assert (done["rows"], counted(done)) == (25, (2, 3, 1))
    assert wrong(shop)
    with shop.port() as port:
        kinds = port.execute("SELECT id, kind FROM events WHERE id IN (10, 903)").fetchall()
    assert sorted(kinds) == [(10, "outside"), (903, "k3")]
    assert counted(backfill(shop)) == (0, 1, 0)
    assert not wrong(shop)
    assert counted(backfill(shop)) == (0, 0, 0)
    shop.equal("events")


def test_rows_of_the_lake_are_mended_too(shop: Mirrored) -> None:
    """By patches: the lake's own row is buried, the right one is hot, and a fold works it in."""
    with shop.stack.client() as client:
        moved = client.wait(client.tier([TABLE], "1 day")["id"], timeout_seconds=JOB_SECONDS)
    assert moved["tables"][0]["rows"] == 1000
    gone = '"shop.public"."events$gone' + "0" * 64 + '"'
    damage(
        shop,
        f"INSERT INTO {gone} VALUES (901)",  # missing: buried without a reason
        f"INSERT INTO {HOT} SELECT 5000, TIMESTAMPTZ '2026-02-07 01:00Z', 'k', 1, 'b'",
    )
    assert wrong(shop)
    assert counted(backfill(shop, "2026-02-07", "2026-02-08")) == (1, 0, 1)
    assert not wrong(shop)
    with shop.stack.client() as client:
        client.wait(client.tier([TABLE], "1 day")["id"], timeout_seconds=JOB_SECONDS)
    assert not wrong(shop)
    shop.same_answer("SELECT count(*), sum(amount) FROM events", "union")


def test_under_load_every_change_arrives_once(shop: Mirrored) -> None:
    """Changes of the range while it is read are kept aside and come after the correction."""
    damage(shop, *DAMAGE)
    enough = threading.Event()
    written = 0

    def work() -> None:
        nonlocal written
        with shop.database.connect() as writer:
            while not enough.is_set():
                number = 906 + written % 6
                writer.execute(f"DELETE FROM events WHERE id = {number}")
                at = f"'2026-02-0{7 + written % 2} 13:00Z'"  # in the range, and out of it
                writer.execute(f"INSERT INTO events VALUES ({number}, {at}, 'n', {written}, 'b')")
                writer.execute(f"UPDATE events SET amount = -id, id = -id WHERE id = {number}")
                writer.execute(f"UPDATE events SET id = -id WHERE id = -{number}")
                written += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        wait_until(lambda: written > 20, 60)
        rounds = [counted(backfill(shop, "2026-02-07", "2026-02-08")) for _ in range(4)]
        during = written
        wait_until(lambda: written > during, 60)
    finally:
        enough.set()
        worker.join()
    assert rounds == [(2, 3, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0)]
    assert not wrong(shop)
    shop.equal("events")


@pytest.mark.parametrize(("place", "left"), [*zip(failpoints.REPAIR, (1, 0), strict=True)])
def test_killed_in_the_middle_the_table_follows_again(
    shop: Mirrored, place: str, left: int
) -> None:
    """Nothing is lost of what was kept aside; the backfill may be repeated."""
    damage(shop, f"UPDATE {HOT} SET kind = 'wrong' WHERE id = 903")
    shop.stack.stop()
    shop.stack.start({"HTAPKIT_FAILPOINT": place})
    shop.stack.wait_ready()
    with shop.stack.client() as client, suppress(ServerUnreachable):  # it dies of it
        client.backfill(TABLE)
    shop.stack.wait_ended(60)
    shop.run("UPDATE events SET amount = -1 WHERE id < 50")
    shop.stack.start()
    shop.stack.wait_ready()
    assert counted(backfill(shop)) == (0, left, 0)
    assert not wrong(shop)


def test_what_is_refused(shop: Mirrored) -> None:
    """Before anything is done, with the reason."""
    with shop.stack.client() as client:
        for table, begin, why in (
            ("shop.public.plain", None, "has no key"),
            ("shop.public.nowhere", None, "is not mirrored"),
            (TABLE, "soon", "expected a moment"),
        ):
            with pytest.raises(ServerRefused, match=why):
                client.backfill(table, begin=begin)
        client.table_action("pause", TABLE)
        job = client.backfill(TABLE)
        with pytest.raises(ServerRefused, match="is not followed now"):
            client.wait(job["id"], timeout_seconds=JOB_SECONDS)
    assert shop.state("events") == "paused"  # as its user left it
