"""What a node answers itself: the same rows as the copy's, by key, index and distance."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from htapkit.testing.stack import Stack
from tests.fix_cassandra import SECONDS, Keyspace, connected, is_reader, wait_for

pytestmark = pytest.mark.cassandra
Connection = psycopg.Connection[tuple[object, ...]]

_TABLES = (
    "CREATE TYPE {ks}.pair (a int, b text)",
    """CREATE TABLE {ks}.typed (
        p text, q int, c timestamp, d text, s text STATIC, ti tinyint, si smallint, bi bigint,
        f float, db double, b boolean, dc decimal, vi varint, u uuid, tu timeuuid, da date,
        tm time, du duration, ip inet, bl blob, li list<int>, se set<text>, ma map<text, int>,
        pa pair, fr frozen<pair>, tp tuple<int, text>, ve vector<float, 3>,
        PRIMARY KEY ((p, q), c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC) AND cdc = true""",
    """CREATE TABLE {ks}.items (id int PRIMARY KEY, kind text, color text, note text,
        e vector<float, 4>, w vector<float, 4>) WITH cdc = true""",
    "CREATE TABLE {ks}.named (name text PRIMARY KEY, n int) WITH cdc = true",
    "CREATE INDEX ON {ks}.items (kind) USING 'sai'",
    "CREATE INDEX ON {ks}.items (color)",
    "CREATE INDEX ON {ks}.items (e) USING 'sai'",
    "CREATE INDEX ON {ks}.items (w) USING 'sai'"
    " WITH OPTIONS = {{'similarity_function': 'euclidean'}}",
)
_ROW = """INSERT INTO {ks}.typed (p, q, c, d, ti, si, bi, f, db, b, dc, vi, u, tu, da, tm, du, ip,
    bl, li, se, ma, pa, fr, tp, ve) VALUES ('é', 1, {c}, '{d}', -5, 300, -9000000000, 0.1, 1e300,
    true, 1.50, 123456789012345678901234567890, 6ecd8c99-4036-403d-bf84-cf8400f67836,
    50554d6e-29bb-11e5-b345-feff819cdc9f, '2026-02-03', '01:02:03.123456789', 3d5h, '10.0.0.1',
    0x00ff, [3, 1, 2], {{'b', 'a'}}, {{'y': 2, 'x': 1}}, {{a: 1, b: 'two'}}, {{a: null, b: 'x'}},
    (1, 'one'), [1, 2.5, -3])"""


class Both:
    """One session by the copy, one by the node itself."""

    def __init__(self, hot: Connection, there: Connection, keyspace: str) -> None:
        self.hot, self.there, self.ks = hot, there, keyspace
        hot.execute("SET htapkit.route = 'hot'")
        there.execute("SET htapkit.route = 'source'")

    def same(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """The rows, which both have alike; in order where the statement has one."""
        text = sql.format(ks=self.ks).encode()
        found = []
        for connection in (self.hot, self.there):
            rows = connection.execute(text, parameters or None).fetchall()
            found.append(rows if b"ORDER BY" in text else sorted(rows, key=repr))
        assert found[1] == found[0], sql
        last = self.there.execute("SHOW htapkit.last_route").fetchone()
        assert last == ("source",)
        return found[0]

    def explained(self, sql: str) -> str:
        """The reason that stands beside the source."""
        text = f"EXPLAIN (ROUTE) {sql.format(ks=self.ks)}".encode()
        rows = self.there.execute(text).fetchall()
        return next(str(reason) for route, _, _, _, reason, _ in rows if route == "source")


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What is stopped at the test's end."""
    with ExitStack() as stack:
        yield stack


def _server(keyspace: Keyspace, folder: Path, running: ExitStack) -> Stack:
    settings = keyspace.node.settings(tables=[f"{keyspace.name}.*"])
    stack = running.enter_context(Stack(folder, {"events": {"connector": "cassandra", **settings}}))
    stack.wait_ready(SECONDS)
    return stack


def _written(keyspace: Keyspace) -> random.Random:
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    rolled, execute = random.Random(seed), keyspace.session.execute
    for text in _TABLES:
        execute(text.format(ks=keyspace.name))
    for n in range(40):
        execute(_ROW.format(ks=keyspace.name, c=1_767_000_000_000 + n // 2 * 1000, d="ab"[n % 2]))
    ks = keyspace.name
    execute(f"INSERT INTO {ks}.typed (p, q, s) VALUES ('é', 1, 'shared')")
    execute(f"INSERT INTO {ks}.typed (p, q, s) VALUES ('alone', 1, 'shared')")
    execute(f"INSERT INTO {ks}.typed (p, q, c, d) VALUES ('nulls', 2, 0, '')")
    execute(f"DELETE FROM {ks}.typed WHERE p = 'é' AND q = 1 AND c = 1767000003000")
    insert = keyspace.session.prepare(
        f"INSERT INTO {ks}.items (id, kind, color, note, e, w) VALUES (?, ?, ?, ?, ?, ?)"
    )
    execute(f"INSERT INTO {ks}.named (name, n) VALUES ('a', 1)")
    for n in range(60):
        e = [rolled.uniform(-1, 1) for _ in range(4)]
        execute(insert, (n, "ab"[n % 2], "rgb"[n % 3], f"n{n}", e, [x * 2 for x in e]))
    return rolled


_EQUAL = (
    "SELECT * FROM {ks}.typed WHERE p = 'é' AND q = 1",
    "SELECT * FROM {ks}.typed WHERE q = 1 AND 'alone' = p",
    "SELECT p FROM {ks}.typed WHERE p = 'alone' AND q = 1",
    "SELECT * FROM {ks}.typed WHERE p IN ('é', 'nulls', 'nobody') AND q IN (1, 2)",
    "SELECT d, s FROM {ks}.typed WHERE p = 'é' AND q = 1 AND c = '2025-12-29 09:20:05Z'",
    "SELECT c FROM {ks}.typed WHERE p = 'é' AND q = 1 AND c > '2025-12-29 09:20:05.0005Z'"
    " AND c <= '2025-12-29 09:20:09Z'",
    "SELECT c, d FROM {ks}.typed WHERE p = 'é' AND q = 1 ORDER BY c DESC, d LIMIT 5",
    "SELECT c, d FROM {ks}.typed WHERE p = 'é' AND q = 1 ORDER BY c, d DESC LIMIT 5",
    "SELECT c, d FROM {ks}.typed WHERE p = 'é' AND q = 1 ORDER BY c, d LIMIT 5",
    "SELECT c, d FROM {ks}.typed WHERE p = 'é' AND q = 1 AND d > 'a' ORDER BY c LIMIT 3",
    "SELECT count(*), min(bi), sum(si), count(DISTINCT d) FROM {ks}.typed WHERE p = 'é' AND q = 1",
    "SELECT d, count(*) FROM {ks}.typed WHERE p = 'é' AND q = 1 GROUP BY d ORDER BY d DESC",
    "SELECT bl, c FROM {ks}.typed WHERE p = 'é' AND q = 1 AND (si > 5 OR b) ORDER BY c, d OFFSET 3",
    "SELECT * FROM {ks}.typed WHERE p = 'é' AND q = 5000000000",
    "SELECT * FROM {ks}.typed WHERE p = NULL AND q = 1",
    "SELECT id, note FROM {ks}.items WHERE id IN (3, 3, 5, NULL)",
    "SELECT i.note FROM {ks}.items i CROSS JOIN (SELECT 9 AS id) v WHERE v.id = 9 AND i.id = 3",
    f"SELECT * FROM {{ks}}.named WHERE name IN ('', 'a', '{'z' * 70_000}')",
    "SELECT * FROM {ks}.items WHERE kind = 'a'",
    "SELECT id FROM {ks}.items WHERE color = 'r' AND kind = 'b' AND id > 10",
    "SELECT id FROM {ks}.items WHERE color = 'g' AND note <> 'n1' ORDER BY id DESC LIMIT 4",
    "SELECT id, e <=> '[1,0,0.5,.5]' FROM {ks}.items WHERE id = 7",
)


def test_the_same_rows_as_the_copy(keyspace: Keyspace, tmp_path: Path, running: ExitStack) -> None:
    """By key, by ranges, by indexes, near a vector; refused by the key that is missing."""
    _written(keyspace)
    stack = _server(keyspace, tmp_path / "stack", running)
    both = Both(
        running.enter_context(closing(connected(stack, "events"))),
        running.enter_context(closing(connected(stack, "events"))),
        keyspace.name,
    )
    for sql in _EQUAL:
        both.same(sql)
    assert len(both.same(_EQUAL[0])) == 38
    assert both.same("SELECT p, c, s FROM {ks}.typed WHERE p = 'alone' AND q = 1") == [
        ("alone", None, "shared")
    ]
    for _ in range(7):  # psycopg prepares it at the sixth time
        for known in (1, 2):
            both.same("SELECT * FROM {ks}.typed WHERE p = 'é' AND q = %s LIMIT %s", (known, 50))
    _near(both)
    _refused(both)
    _told(both)
    _in_place_of_the_copy(both, stack)


def _near(both: Both) -> None:
    """So few vectors are all found by the index."""
    exact = both.same(
        "SELECT id, e <=> '[1,0,0.5,.5]' AS d, note FROM {ks}.items ORDER BY d LIMIT 5"
    )
    assert len(exact) == 5
    both.same("SELECT id FROM {ks}.items ORDER BY w <-> %s::vector LIMIT %s", ("[1,0,0.5,.5]", 5))
    both.same("SELECT id FROM {ks}.items WHERE kind = 'a' ORDER BY e <=> '[1,2,3,4]' LIMIT 3")
    asked = both.explained("SELECT id FROM {ks}.items ORDER BY e <=> '[1,2,3,4]' LIMIT 3")
    assert 'ORDER BY "e" ANN OF ? LIMIT 3 (at LOCAL_ONE)' in asked


def _refused(both: Both) -> None:
    refused = {
        "SELECT * FROM {ks}.typed": "p and q of the partition key",
        "SELECT * FROM {ks}.typed WHERE p = 'é' AND c > '2026-01-01Z'": "CQL needs q of the",
        "SELECT * FROM {ks}.typed WHERE q > 1 AND p = 'é'": "CQL needs q of the",
        "SELECT * FROM {ks}.items WHERE note = 'n1'": "CQL needs id of the partition key",
        "SELECT id FROM {ks}.items ORDER BY w <=> '[1,2,3,4]' LIMIT 3": "its own is euclidean",
        "SELECT id FROM {ks}.items ORDER BY e <=> '[1,2,3,4]'": "need a LIMIT",
        "SELECT id FROM {ks}.items WHERE note = 'x' ORDER BY e <=> '[1,2,3,4]' LIMIT 3": "filtered",
        "SELECT * FROM {ks}.items a, {ks}.items b WHERE a.id = 1": "more than one table",
        "SELECT id FROM {ks}.items WHERE id = 1 AND nothing = 2": "nothing",
    }
    for sql, why in refused.items():
        text = sql.format(ks=both.ks).encode()
        for prepare in (False, True):
            with pytest.raises(psycopg.errors.FeatureNotSupported, match=why):
                both.there.execute(text, prepare=prepare)


def _told(both: Both) -> None:
    sql = "SELECT d FROM {ks}.typed WHERE p = 'é' AND q = 1 AND c = '2026-01-01Z' LIMIT 2"
    assert both.explained(sql).endswith('WHERE "p" = ? AND "q" = ? AND "c" = ? LIMIT 2 (at ALL)')
    assert "q of the partition key" in both.explained("SELECT * FROM {ks}.typed WHERE p = 'é'")


@contextmanager
def _standing(stack: Stack) -> Iterator[None]:
    """The reader of the log stands still: no copy is fresh, however long one waits."""
    found = psutil.Process(stack.pid).children(recursive=True)
    (reader,) = filter(is_reader, found)
    reader.suspend()
    try:
        yield
    finally:
        reader.resume()


def _in_place_of_the_copy(both: Both, stack: Stack) -> None:
    """A paused table is answered by key; all else says both reasons."""
    ks = both.ks
    both.hot.execute("SET htapkit.route = 'auto'")
    with _standing(stack):
        _in_place_of_a_stale_copy(both)
    with stack.client() as client:
        client.table_action("pause", f"events.{ks}.items")
    hot = both.hot

    def note() -> object | None:
        found = hot.execute(f"SELECT note FROM {ks}.items WHERE id = 7".encode()).fetchone()
        last = hot.execute("SHOW htapkit.last_route").fetchone()
        return found if last == ("source",) else None

    assert wait_for(note) == ("n7",)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"paused.*CQL needs id"):
        hot.execute(f"SELECT count(*) FROM {ks}.items".encode())


def _in_place_of_a_stale_copy(both: Both) -> None:
    """What came a moment ago is not in the copy, and is asked for by key."""
    hot, ks = both.hot, both.ks
    hot.execute("SET htapkit.wait_timeout = '1ms'")
    by_key = f"SELECT note FROM {ks}.items WHERE id = 7"
    assert hot.execute(by_key.encode()).fetchone() == ("n7",)
    assert hot.execute("SHOW htapkit.last_route").fetchone() == ("source",)
    told = hot.execute(f"EXPLAIN (ROUTE) {by_key}".encode()).fetchall()
    assert [(route, chosen) for route, chosen, *_ in told] == [("hot", "false"), ("source", "true")]
    with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"raise htapkit\.wait_timeout"):
        hot.execute(f"SELECT count(*) FROM {ks}.items".encode())
    hot.execute("RESET htapkit.wait_timeout")
