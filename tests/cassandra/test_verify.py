"""`verify` against a real node: equal while it is written, and what is not, by its key."""

from __future__ import annotations

import os
import random
import threading
from functools import partial
from pathlib import Path

import pytest

from htapkit.ingest import Verified, verify
from htapkit.model import LakeFiles, TableId, hot_relation
from htapkit.query import whole_rows
from tests.cassandra.mirrored import Copied, copied
from tests.cassandra.workload import Workload
from tests.fix_cassandra import SECONDS, Keyspace

pytestmark = pytest.mark.cassandra
_KEYED = (
    "CREATE TABLE {}.keyed (i uuid, t timestamp, x blob, n bigint, d date, s text, v double,"
    " PRIMARY KEY ((i, t), x, n, d, s)) WITH cdc = true"
)
_KEYED_ROW = (
    "INSERT INTO {}.keyed (i, t, x, n, d, s, v) VALUES (00000000-0000-4000-8000-00000000000{},"
    " '2020-01-02 03:04:05.006Z', 0x00ff, {}, '1969-12-31', 'it''s ü', 0.5)"
)
_ODD = "CREATE TABLE {}.odd (d double PRIMARY KEY, v int) WITH cdc = true"


def _no_files(*_: object) -> LakeFiles:
    """There is no lake."""
    raise NotImplementedError


def _verified(made: Copied) -> dict[str, Verified]:
    found = verify(made.mirror, made.store, partial(whole_rows, _no_files), [])
    return {each.table.rpartition(".")[2]: each for each in found.tables}


def _damage(made: Copied, name: str, *statements: str) -> None:
    """Change the copy's rows, and nothing that makes them."""
    schema, relation = hot_relation(TableId("events", made.keyspace.name, name))
    with made.store._core.operation("events") as transaction:
        for statement in statements:
            text = statement.format(f'"{schema}"."{relation}"')
            transaction.cursor.execute(text).fetchall()


def test_equal_while_it_is_written_and_else_different(keyspace: Keyspace, tmp_path: Path) -> None:
    """Random statements, some of which end soon, counters, and keys of many types."""
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    session, ks, workload = keyspace.session, keyspace.name, Workload(keyspace, seed)
    session.execute(f"CREATE TABLE {ks}.counted (id int PRIMARY KEY, n counter) WITH cdc = true")
    session.execute(_KEYED.format(ks))
    session.execute(_ODD.format(ks))
    workload.write(600)
    for number in range(9):
        session.execute(_KEYED_ROW.format(ks, number, number - 5))
        session.execute(f"UPDATE {ks}.counted SET n = n + {number} WHERE id = {number}")
        session.execute(f"INSERT INTO {ks}.odd (d, v) VALUES ({number}.5, {number})")
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            workload.write(20)
            session.execute(f"UPDATE {ks}.counted SET n = n + 1 WHERE id = 3")

    with copied(keyspace, tmp_path, read_consistency="ONE") as made:
        for name in ("t", "counted", "keyed", "odd"):
            made.follows(name)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            found = _verified(made)
        finally:
            ended.set()
            writer.join(SECONDS)
        assert {name: (each.equal, each.examples) for name, each in found.items()} == dict.fromkeys(
            ("t", "counted", "keyed", "odd"), (True, ())
        )
        assert [found[name].rows_copy for name in ("counted", "keyed", "odd")] == [9, 9, 9]
        assert (found["t"].rows_copy or 0) > 100

        _damage(made, "counted", "UPDATE {} SET n = n + 1 WHERE id = 4")
        _damage(made, "keyed", "DELETE FROM {} WHERE n = -2", "UPDATE {} SET v = 1 WHERE n = 2")
        session.execute(f"INSERT INTO {ks}.t (pk, ck, a) VALUES (7, 3, 'there')")
        made.rows("t", "pk")  # all of it is here
        _damage(made, "t", "DELETE FROM {} WHERE pk = 7 AND ck = 3")
        _damage(made, "odd", "DELETE FROM {} WHERE d = 4.5")
        found = _verified(made)
    assert found["counted"].examples == ("4",)
    assert found["t"].examples == ("7, 3",)
    keys = found["keyed"].examples
    assert [key.split(", ")[3] for key in keys] == ["-2", "2"]
    assert not any(each.equal for each in found.values())
    assert "d" in found["odd"].why
    assert found["odd"].rows_source is None
