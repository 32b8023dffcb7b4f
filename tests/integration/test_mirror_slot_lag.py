"""`limits.slot_lag`: a reader that stands still costs the source a bounded amount of its disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from htapkit.testing.postgres import Database
from htapkit.testing.stack import wait_until
from tests.fix_mirror import SETTLE_SECONDS, Mirrored, mirrored, slot_name, stopped_sender

pytestmark = pytest.mark.integration

LIMIT = 2_000_000


@contextmanager
def limited(database: Database, folder: Path, action: str) -> Iterator[Mirrored]:
    """A mirror of two tables with a small limit and a short patience."""
    for table in ("t", "u"):
        database.execute(f"create table {table} (id int primary key, v text)")
        database.execute(f"insert into {table} select g, 'v' from generate_series(1, 100) g")
    limits = {"slot_lag": LIMIT, "slot_lag_time": "1 s", "slot_lag_action": action}
    with mirrored(database, folder, configuration={"limits": limits}) as one:
        one.stack.wait_ready()
        yield one


def write_more_than_the_limit(one: Mirrored) -> None:
    """And some rows that must not be missing afterwards."""
    one.run(
        "insert into t select g, repeat('x', 500) from generate_series(1000, 6000) g",
        "update u set v = 'w' where id < 10",
        "delete from t where id < 5",
    )


def kept(one: Mirrored) -> bool:
    """Whether the server has the slot, and not only one that is being made."""
    sql = "select confirmed_flush_lsn from pg_replication_slots where slot_name = %s"
    return any(row[0] for row in one.database.execute(sql, [slot_name(one.database)]))


def test_the_slot_is_dropped_and_all_is_copied_again(database: Database, tmp_path: Path) -> None:
    """Every table says why; the source answers meanwhile; once, and then it is exact again."""
    with limited(database, tmp_path, "drop") as one, database.connect() as holder:
        assert one.copies("t") == 1
        holder.execute("BEGIN")
        holder.execute("SELECT pg_current_xact_id()")  # a new slot waits for its end
        with stopped_sender(one):
            write_more_than_the_limit(one)
            wait_until(lambda: one.metric("htapkit_slots_let_go_total") == 1, SETTLE_SECONDS)
            with one.stack.connect() as port:
                # Whatever state it is in: the answer is the source's, or as fresh as it.
                port.execute("SET htapkit.freshness = 'strong'")
                port.execute("SET htapkit.wait_timeout = '100 ms'")
                assert port.execute("SELECT count(*) FROM t").fetchone() == (5097,)
        wait_until(lambda: not kept(one), SETTLE_SECONDS, one.stack.log_end)
        for table in ("t", "u"):
            one.becomes(table, "copying", "limits.slot_lag: shop kept ")
        holder.execute("ROLLBACK")
        one.is_copied("t", 2)
        one.settles("t", "u")
        log = one.stack.log_path.read_text()
        assert "limits.slot_lag: shop kept " in log
        assert f"{LIMIT} are allowed" in log
        wait_until(
            lambda: one.metric("htapkit_slot_lag_headroom_bytes") > LIMIT / 2, SETTLE_SECONDS
        )
        one.run("insert into t values (7000, 'after')", "delete from u where id = 50")
        one.equal("t", "u")
        assert one.all_copies("t", "u") == {"t": 2, "u": 2}
        assert one.metric("htapkit_slots_let_go_total") == 1


def test_what_the_server_spills(database: Database, tmp_path: Path) -> None:
    """A transaction larger than `decoding_memory` is counted, and exact."""
    with mirrored(database, tmp_path, settings={"decoding_memory": "64kB"}) as one:
        one.make("t", "create table t (id int primary key, v text)")
        one.run("insert into t select g, 'v' || g from generate_series(1, 20000) g")
        wait_until(lambda: one.metric("htapkit_slot_spilled_bytes") > 100_000, SETTLE_SECONDS)
        one.equal("t")


def test_a_warning_only(database: Database, tmp_path: Path) -> None:
    """`warn`: status says so, and the slot keeps everything."""
    with limited(database, tmp_path, "warn") as one:
        with stopped_sender(one):
            write_more_than_the_limit(one)
            words = f"{LIMIT} are allowed"
            wait_until(
                lambda: any(words in each for each in one.source()["warnings"]), SETTLE_SECONDS
            )
            assert one.metric("htapkit_slot_lag_headroom_bytes") < 0
        one.settles("t", "u")
        assert one.copies("t") == 1
        wait_until(
            lambda: not any(words in each for each in one.source()["warnings"]), SETTLE_SECONDS
        )
