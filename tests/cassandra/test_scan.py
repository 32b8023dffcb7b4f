"""Copies over CQL: the rows and values that a copy of files has, and that the node gives."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import cast

import pytest

from htapkit.model import Severity, TableId
from htapkit.testing.stack import Stack
from htapkit_cassandra import scan
from tests.cassandra.mirrored import Copied, Row, copied
from tests.cassandra.test_copy import TYPES
from tests.cassandra.workload import Workload
from tests.fix_cassandra import HAS_VECTORS, SECONDS, Keyspace, connected, wait_for

pytestmark = [
    pytest.mark.cassandra,
    pytest.mark.skipif(not HAS_VECTORS, reason="CQL says the times of elements from 5.0 on"),
]
_ALL = "pk, ck, s, a, b, m"


def _over_cql(made: Copied, name: str) -> bool:
    """Whether the copy was made so: it has a horizon."""
    table = TableId("events", made.keyspace.name, name)
    return bool(json.loads(made.store.fingerprint(table))["horizon"])


def _statements(ks: str, insert: str, at: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Those before the copies, and those behind them; K is a row of the first partition."""
    text, tags, pairs, place = (at[t] for t in ("text", "set<text>", "map<int, text>", "place"))
    before = [
        *(insert.replace("PK", "1").replace("CK", str(ck)) for ck in range(12)),
        insert.replace("PK", "2").replace("CK", "0") + " USING TTL 90000",
        insert.replace("PK", "3").replace("CK", "0") + " USING TIMESTAMP 1000",
        f"UPDATE {ks}.t USING TTL 90000 SET {pairs}[2] = 'y', {place}.street = 'n' WHERE K = 1",
        f"UPDATE {ks}.t USING TIMESTAMP 2000 SET {tags} = {tags} + {{'old'}} WHERE K = 1",
        f"UPDATE {ks}.t SET {tags} = {tags} - {{'a'}} WHERE K = 2",
        f"DELETE {text}, {pairs}, {place}.street FROM {ks}.t WHERE K = 3",
        f"DELETE FROM {ks}.t WHERE K = 4",
        f"DELETE FROM {ks}.t WHERE pk = 1 AND ck > 9",
        f"DELETE FROM {ks}.t WHERE pk = 5",
        f"INSERT INTO {ks}.t (pk, ck) VALUES (1, 20)",
        f"UPDATE {ks}.t SET {text} = 'only' WHERE K = 21",
        f"INSERT INTO {ks}.t (pk, ck, {text}) VALUES (1, 22, 'inserted')",
        f"UPDATE {ks}.t SET sh = {{1, 2}} WHERE pk = 1",
        f"UPDATE {ks}.t SET sh = {{7}} WHERE pk = 9",
        f"UPDATE {ks}.t USING TTL 1 SET {text} = 'over' WHERE K = 5",
    ]
    after = [
        f"UPDATE {ks}.t USING TIMESTAMP 5000 SET {text} = 'late' WHERE K = 3",
        f"UPDATE {ks}.t USING TIMESTAMP 5000 SET {pairs}[9] = 'late', {place}.street = 'late'"
        " WHERE K = 3",
        f"INSERT INTO {ks}.t (pk, ck, {text}) VALUES (1, 4, 'late') USING TIMESTAMP 5000",
        f"INSERT INTO {ks}.t (pk, ck, {text}) VALUES (1, 10, 'late') USING TIMESTAMP 5000",
        f"INSERT INTO {ks}.t (pk, ck, {text}) VALUES (5, 1, 'late') USING TIMESTAMP 5000",
        f"INSERT INTO {ks}.t (pk, ck, {text}) VALUES (6, 1, 'late') USING TIMESTAMP 5000",
        f"UPDATE {ks}.t USING TIMESTAMP 5000 SET sh = sh + {{3}} WHERE pk = 9",
        f"DELETE {text} FROM {ks}.t WHERE K = 21",
        f"DELETE {text} FROM {ks}.t WHERE K = 22",
        f"DELETE FROM {ks}.t WHERE K = 20",
        f"DELETE FROM {ks}.t USING TIMESTAMP 1500 WHERE pk = 3",
        insert.replace("PK", "7").replace("CK", "7"),
    ]
    return before, after


def test_either_way_gives_the_same(keyspace: Keyspace, tmp_path: Path) -> None:
    """Every type; what was deleted, has an end, is static, was written at other times.

    And what comes late: older than the copy, and than deletions that only files have.
    """
    session, ks = keyspace.session, keyspace.name
    session.execute(f"CREATE TYPE {ks}.place (street text, spots frozen<list<int>>)")
    types = [(cql, literal) for cql, literal, _ in TYPES if cql != "list<int>"]
    names = [f"c{number}" for number in range(len(types))]
    columns = ", ".join(f"{n} {cql}" for n, (cql, _) in zip(names, types, strict=True))
    session.execute(
        f"CREATE TABLE {ks}.t (pk int, ck int, sh set<int> static, {columns},"
        " PRIMARY KEY (pk, ck)) WITH cdc = true"
    )
    values = ", ".join(literal for _, literal in types)
    insert = f"INSERT INTO {ks}.t (pk, ck, {', '.join(names)}) VALUES (PK, CK, {values})"
    before, after = _statements(ks, insert, {c: n for n, (c, _) in zip(names, types, strict=True)})
    for statement in before:
        session.execute(statement.replace("K =", "pk = 1 AND ck ="))
    shown = ", ".join(["pk", "ck", "sh", *names])
    with (
        copied(keyspace, tmp_path / "files") as files,
        copied(keyspace, tmp_path / "cql", snapshot="cql") as over_cql,
    ):
        files.follows("t")
        over_cql.follows("t")
        assert [_over_cql(made, "t") for made in (files, over_cql)] == [False, True]
        _equal(files, over_cql, shown)
        for statement in after:
            session.execute(statement.replace("K =", "pk = 1 AND ck ="))
        _equal(files, over_cql, shown)


def _equal(files: Copied, over_cql: Copied, columns: str) -> None:
    """Both copies, and the keys that the node gives."""
    first, second = (sorted(made.rows("t", columns), key=repr) for made in (files, over_cql))
    assert first == second
    selected = files.keyspace.session.execute(f"SELECT pk, ck FROM {files.keyspace.name}.t")
    assert sorted((tuple(row) for row in selected), key=repr) == [row[:2] for row in first]


def test_random_statements_while_it_is_read(
    keyspace: Keyspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them at times that are older than the copy: each is read again, and none comes back.

    What is compared is what is promised: rows with a value of their own, and what is shared.
    """
    monkeypatch.setattr(scan, "FIRST_ROWS", 3)
    monkeypatch.setattr(scan, "PAGE_ROWS", 7)
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    workload = Workload(keyspace, seed)
    workload.write(600)
    writing, ended = threading.Event(), threading.Event()

    def write() -> None:
        for _ in range(30):  # each of them is read again
            if not ended.is_set():
                workload.write(20)
                writing.set()

    writer = threading.Thread(target=write)
    with copied(keyspace, tmp_path, snapshot="cql") as made:
        writer.start()
        try:
            assert writing.wait(SECONDS)
            made.follows("t")
        finally:
            ended.set()
            writer.join(SECONDS)
        assert _over_cql(made, "t")
        workload.write(200)
        _ends_equal(made)
    workload.write(200)
    with copied(keyspace, tmp_path, snapshot="cql") as made:
        workload.write(100)
        _ends_equal(made)


def _promised(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    valued = [row for row in rows if any(value is not None for value in row[3:])]
    shared = {(row[0], row[2]) for row in rows if row[2] is not None}
    return sorted(valued, key=repr), sorted(shared, key=repr)


def _ends_equal(made: Copied) -> None:
    """Once what is short-lived is over; until then both sides are asked again."""
    seen: list[tuple[list[Row], list[Row]]] = []

    def equal() -> bool | None:
        found = made.keyspace.session.execute(f"SELECT {_ALL} FROM {made.keyspace.name}.t")
        selected = [(*row[:5], dict(row.m) if row.m else None) for row in found]
        shown = [
            (*row[:5], json.loads(str(row[5])) if row[5] else None) for row in made.rows("t", _ALL)
        ]
        seen[:] = [_promised(cast("list[Row]", selected)), _promised(cast("list[Row]", shown))]
        return seen[0] == seen[1] or None

    try:
        wait_for(equal)
    except AssertionError:
        assert seen[1] == seen[0]
    assert len(seen[0][0]) > 100


def test_without_jmx_it_is_cql(keyspace: Keyspace, tmp_path: Path) -> None:
    """`auto`, and check says so; what has no way is named, and does not hinder the others."""
    session, ks = keyspace.session, keyspace.name
    session.execute(f"CREATE TABLE {ks}.a (id int PRIMARY KEY, l list<int>) WITH cdc = true")
    session.execute(f"CREATE TABLE {ks}.t (id int PRIMARY KEY, v text) WITH cdc = true")
    session.execute(f"INSERT INTO {ks}.t (id, v) VALUES (1, 'x')")
    with copied(keyspace, tmp_path, jmx_port=1) as made:
        findings = {f.subject: f for f in made.source.check()}
        assert findings["jmx"].severity is Severity.WARNING
        assert "tables are copied over CQL" in findings["jmx"].message
        assert findings[f"table events.{ks}.t"].message.endswith("; copied over CQL")
        listed = findings[f"table events.{ks}.a"]
        assert listed.severity is Severity.ERROR
        assert "elements of l lie" in listed.message
        made.follows("t")
        assert made.rows("t", "id, v") == [(1, "x")]


@pytest.mark.long
def test_kills_in_the_middle(keyspace: Keyspace, tmp_path: Path) -> None:
    """Of the scan, of its swap, and of what follows: late writes stay late over a restart."""
    session, ks = keyspace.session, keyspace.name
    session.execute(f"CREATE TABLE {ks}.t (id int PRIMARY KEY, v text) WITH cdc = true")
    insert = session.prepare(f"INSERT INTO {ks}.t (id, v) VALUES (?, ?) USING TIMESTAMP ?")
    for number in range(2_000):
        session.execute(insert, (number, f"v{number}", 1_000))
    session.execute(f"DELETE FROM {ks}.t USING TIMESTAMP 9000 WHERE id = 5")
    settings = keyspace.node.settings(tables=[f"{ks}.*"], snapshot="cql")
    stack = Stack(tmp_path / "stack", {"events": {"connector": "cassandra", **settings}})
    with ExitStack() as running:
        running.callback(stack.stop)
        for point in ("copy.snapshot:1", "copy.loaded:1", "copy.swapped:1"):
            stack.start({"HTAPKIT_FAILPOINT": point})
            assert stack.wait_ended(SECONDS) == -signal.SIGKILL, stack.log_end()
            session.execute(insert, (5, "late", 2_000))
        stack.start()
        stack.wait_ready(SECONDS)
        os.kill(stack.pid, signal.SIGKILL)
        assert stack.wait_ended(SECONDS) == -signal.SIGKILL
        session.execute(insert, (5, "later", 3_000))
        session.execute(insert, (6, "newer", 3_000))
        stack.start()
        stack.wait_ready(SECONDS)
        with closing(connected(stack, "events")) as connection:
            shown = connection.execute(f"SELECT id, v FROM {ks}.t".encode()).fetchall()
        selected = session.execute(f"SELECT id, v FROM {ks}.t")
        assert sorted(shown) == sorted(tuple(row) for row in selected)
        assert len(shown) == 1_999
