"""A node's tables in hot and lake: what is written late, again or deleted is what SELECT gives."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import SimpleStatement

from htapkit.client import ServerRefused
from htapkit.testing.stack import Stack
from tests.fix_cassandra import SECONDS, Keyspace, connected, wait_for

pytestmark = pytest.mark.cassandra

_DAYS, _PARTITIONS = 20, 4
_NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
_TIME = 1_700_000_000_000_000  # of the first write, microseconds
_TTL_SECONDS = 120  # more than two runs take on a busy machine
_COLUMNS = "pk, at, a, b, m"
Rows = list[tuple[object, ...]]


def _day(number: int) -> datetime:
    return _NOON - timedelta(days=number)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What is stopped at the test's end."""
    with ExitStack() as stack:
        yield stack


class _Written:
    """The table, its first writes, and both sides' rows."""

    def __init__(self, keyspace: Keyspace, ttl_seconds: int = 0) -> None:
        self.session: Session = keyspace.session
        self.name = f"{keyspace.name}.t"
        self.session.execute(
            f"CREATE TABLE {self.name} (pk int, at timestamp, a text, b int, m map<text, int>,"
            " PRIMARY KEY (pk, at)) WITH cdc = true AND CLUSTERING ORDER BY (at DESC)"
            f" AND default_time_to_live = {ttl_seconds}"
        )
        rolled = random.Random(5)
        self.first = [
            (pk, _day(day), f"a{pk}-{day}", rolled.randrange(-9, 9), {"k": day}, _TIME + 10)
            for pk in range(_PARTITIONS)
            for day in range(_DAYS)
        ]

    def write_first(self) -> None:
        """The same each time, with the same times."""
        insert = self.session.prepare(
            f"INSERT INTO {self.name} ({_COLUMNS}) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
        )
        execute_concurrent_with_args(self.session, insert, self.first)

    def run(self, text: str, *values: object) -> None:
        """One statement."""
        self.session.execute(text.replace(" T ", f" {self.name} ", 1), values)

    def selected(self) -> Rows:
        """The node's rows."""
        text = f"SELECT {_COLUMNS} FROM {self.name}"
        every = SimpleStatement(text, consistency_level=ConsistencyLevel.ALL)
        rows = self.session.execute(every)
        found = [
            (row.pk, row.at.replace(tzinfo=UTC), row.a, row.b, dict(row.m) if row.m else None)
            for row in rows
        ]
        return sorted(found, key=repr)

    def copied(self, stack: Stack) -> tuple[Rows, str]:
        """The copy's, as fresh as the node is now, and the route."""
        with closing(connected(stack, "events")) as connection:
            text = f"SELECT {_COLUMNS} FROM {self.name}"
            rows = connection.execute(text.encode()).fetchall()
            route = connection.execute("SHOW htapkit.last_route").fetchone()
        assert route is not None
        return sorted(rows, key=repr), str(route[0])


def _tier(stack: Stack, table: str) -> subprocess.CompletedProcess[str]:
    # The server chose its port itself.
    document = yaml.safe_load(stack.config_path.read_text())
    document["servers"]["http"]["listen"] = f"127.0.0.1:{stack.http_port}"
    config = stack.folder / "asked.yaml"
    config.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "htapkit", "tier", f"events.{table}", "--older-than", "5 days"]
    return subprocess.run(
        [*command, "--config", str(config), "--json"], capture_output=True, text=True, check=False
    )


def _moved(stack: Stack, table: str) -> dict[str, int]:
    found = _tier(stack, table)
    assert found.returncode == 0, found.stderr + stack.log_end()
    (moved,) = json.loads(found.stdout)["tables"]
    return dict(moved)


_LATE = (
    ("UPDATE T USING TIMESTAMP %s SET a = 'won' WHERE pk = 1 AND at = %s", _TIME + 20, _day(9)),
    ("UPDATE T USING TIMESTAMP %s SET b = 7 WHERE pk = 1 AND at = %s", _TIME + 20, _day(9)),
    (
        "UPDATE T USING TIMESTAMP %s SET m['l'] = 1 WHERE pk = 1 AND at = %s",
        _TIME + 20,
        _day(10),
    ),
    ("DELETE b FROM T USING TIMESTAMP %s WHERE pk = 1 AND at = %s", _TIME + 20, _day(11)),
    ("INSERT INTO T (pk, at, a) VALUES (8, %s, 'late')", _day(12)),
    ("DELETE FROM T USING TIMESTAMP %s WHERE pk = 1 AND at = %s", _TIME + 20, _day(13)),
    ("DELETE FROM T USING TIMESTAMP %s WHERE pk = 1 AND at < %s", _TIME + 20, _day(16)),
    ("DELETE FROM T USING TIMESTAMP %s WHERE pk = 1 AND at < %s", _TIME + 5, _day(8)),
    ("DELETE FROM T USING TIMESTAMP %s WHERE pk = 2", _TIME + 20),
    ("UPDATE T USING TIMESTAMP %s SET b = 5 WHERE pk = 2 AND at = %s", _TIME + 21, _day(14)),
)


def _following(keyspace: Keyspace, folder: Path, running: ExitStack) -> Stack:
    """An htapkit over the keyspace, which tiers when it is told to."""
    settings = keyspace.node.settings(tables=[f"{keyspace.name}.*"])
    stack = Stack(
        folder / "stack",
        {"events": {"connector": "cassandra", **settings}},
        configuration={"lake": {"interval": "1 hour"}},
    )
    running.callback(stack.stop)
    stack.start()
    stack.wait_ready(SECONDS)
    return stack


@pytest.mark.long
def test_late_writes_and_deletions_of_tiered_rows(
    keyspace: Keyspace, tmp_path: Path, running: ExitStack
) -> None:
    """Compared with the node after each step; then all of it again, and after a kill."""
    written = _Written(keyspace)
    written.write_first()
    written.run(
        "UPDATE T USING TIMESTAMP %s SET b = 100 WHERE pk = 1 AND at = %s", _TIME + 30, _day(9)
    )
    written.run("INSERT INTO T (pk, at, a) VALUES (3, %s, 'ends') USING TTL 86400", _day(15))
    stack = _following(keyspace, tmp_path, running)
    assert written.copied(stack)[0] == written.selected()
    old = sum(at < _day(5) for _, at, *_ in written.first)
    moved = _moved(stack, written.name)
    assert moved["rows"] - (old - 1) in {0, _PARTITIONS}, (
        "but for the one that ends; or at midnight"
    )
    assert written.copied(stack) == (written.selected(), "union")

    for step in _LATE:
        written.run(*step)
        assert written.copied(stack) == (written.selected(), "union"), step
    stack.kill()
    written.write_first()
    stack.start()
    stack.wait_ready(SECONDS)
    assert written.copied(stack) == (written.selected(), "union")
    folded = _moved(stack, written.name)
    assert folded["folded"] < old / 2, "what came again patches nothing"
    for step in _LATE:
        written.run(*step)
    written.write_first()
    assert written.copied(stack) == (written.selected(), "union")
    assert _moved(stack, written.name)["folded"] < 3, "only what was written anew, without its time"
    assert written.copied(stack) == (written.selected(), "union")
    assert len(written.selected()) > _DAYS
    with stack.client() as client:
        verified = client.verify([f"events.{written.name}"])
        assert verified["equal"], verified
        assert verified["tables"][0]["rows_copy"] == len(written.selected())
        with pytest.raises(ServerRefused, match="takes no backfill"):
            client.backfill(f"events.{written.name}")


@pytest.mark.long
def test_rows_with_a_ttl_end_in_the_lake(
    keyspace: Keyspace, tmp_path: Path, running: ExitStack
) -> None:
    """Of a table that gives all of them one, compared with the node before they end and after."""
    written = _Written(keyspace, _TTL_SECONDS)
    stack = _following(keyspace, tmp_path, running)
    written.write_first()
    lasting = "INSERT INTO T (pk, at, a) VALUES (9, %s, 'lasts') USING TTL 0"
    written.run(lasting, _day(12))
    old = sum(at < _day(5) for _, at, *_ in written.first)
    assert written.copied(stack)[0] == written.selected()
    moved = _moved(stack, written.name)
    assert moved["rows"] - (old + 1) in {0, _PARTITIONS}, "all of them, or at midnight a day more"
    assert written.copied(stack) == (written.selected(), "union")
    older = "UPDATE T USING TTL 0 AND TIMESTAMP %s SET b = 77 WHERE pk = 2 AND at = %s"
    for step in (
        ("UPDATE T SET a = 'comes back' WHERE pk = 1 AND at = %s", _day(9)),
        (older, _TIME + 5, _day(10)),
        ("DELETE b FROM T USING TIMESTAMP %s WHERE pk = 1 AND at = %s", _TIME + 20, _day(11)),
    ):
        written.run(*step)
        assert written.copied(stack) == (written.selected(), "union"), step
    assert len(written.selected()) == len(written.first) + 1, "none has ended so far"
    assert 0 < _moved(stack, written.name)["folded"] < 3, "not the one that lost"

    wait_for(lambda: len(written.selected()) == 1 or None)
    wait_for(lambda: written.copied(stack) == (written.selected(), "union") or None)
    for step in (
        (older, _TIME + 6, _day(10)),
        ("INSERT INTO T (pk, at, a) VALUES (3, %s, 'younger') USING TTL 0", _day(14)),
        ("UPDATE T USING TTL 0 SET b = 5 WHERE pk = 3 AND at = %s", _day(15)),
    ):
        written.run(*step)
        assert written.copied(stack) == (written.selected(), "union"), step
    assert [pk for pk, *_ in written.selected()] == [3, 3, 9], "what is older is covered"
    _moved(stack, written.name)
    assert written.copied(stack) == (written.selected(), "union")


_WIDE = (
    "bo boolean, ti tinyint, bi bigint, fl float, d double, de decimal, vi varint, bl blob, u uuid,"
    " tu timeuuid, da date, tm time, ts timestamp, i inet, du duration, f frozen<map<text, int>>,"
    " s set<text>, l frozen<list<text>>, m map<int, double>, ve vector<float, 3>"
)
_VALUES = (
    "true, -1, 7, {odd}, {odd}, 1.50, 12345678901234567890, 0x00ff,"
    " 6ecd8c99-4036-403d-bf84-cf8400f67836, 50554d6e-29bb-11e5-b345-feff819cdc9f, '2026-02-03',"
    " '01:02:03.000000004', '1969-01-01 00:00:00.001Z', '::1', 1mo2d, {{'a': 1}},"
    " {{'y''z;,', 'x'}}, ['x'], {{1: {odd}}}, [{odd}, -0.0, 1.5]"
)


@pytest.mark.long
def test_every_type_comes_back_as_it_was(
    keyspace: Keyspace, tmp_path: Path, running: ExitStack
) -> None:
    """Nothing of what is written again patches a row, and no value is another one in the lake."""
    name = f"{keyspace.name}.wide"
    keyspace.session.execute(
        f"CREATE TABLE {name} (pk int, at date, {_WIDE}, PRIMARY KEY (pk, at)) WITH cdc = true"
    )

    def write() -> None:
        """With the same times, each time."""
        names = "bo, ti, bi, fl, d, de, vi, bl, u, tu, da, tm, ts, i, du, f, s, l, m, ve"
        for pk, odd in enumerate(("NaN", "-0.0", "Infinity", "1e-30", "0.1")):
            text = f"INSERT INTO {name} (pk, at, {names}) VALUES ({pk}, '2026-01-0{pk + 1}', "
            values = _VALUES.format(odd=odd)
            keyspace.session.execute(f"{text}{values}) USING TIMESTAMP {_TIME}")

    write()
    # Once: the node keeps the moment of a deletion beside its time.
    keyspace.session.execute(
        f"DELETE bl, m FROM {name} USING TIMESTAMP {_TIME} WHERE pk = 4 AND at = '2026-01-05'"
    )
    stack = _following(keyspace, tmp_path, running)

    def rows() -> list[str]:
        with closing(connected(stack, "events")) as connection:
            found = connection.execute(f"SELECT * FROM {name}".encode()).fetchall()
            return sorted(map(repr, found))

    before = rows()
    assert len(before) == 5
    assert _moved(stack, name)["rows"] == 5
    assert rows() == before
    write()
    assert rows() == before
    assert _moved(stack, name)["folded"] == 0
    keyspace.session.execute(
        f"UPDATE {name} SET ti = 5 WHERE pk IN (0, 1, 2, 3, 4) AND at = '2026-01-01'"
    )
    after = rows()
    assert len(set(after) - set(before)) == 5, "one that was there, and four new ones"
    write()
    assert rows() == after
    assert _moved(stack, name)["folded"] == 1
    assert rows() == after


@pytest.mark.long
def test_a_table_without_a_time_in_its_key_says_so(
    keyspace: Keyspace, tmp_path: Path, running: ExitStack
) -> None:
    """It goes on in the hot store."""
    keyspace.session.execute(
        f"CREATE TABLE {keyspace.name}.t (id int PRIMARY KEY, at timestamp) WITH cdc = true"
    )
    stack = _following(keyspace, tmp_path, running)
    refused = _tier(stack, f"{keyspace.name}.t")
    assert refused.returncode != 0
    assert "no date or timestamp is in its key" in refused.stderr + refused.stdout
    keyspace.session.execute(f"INSERT INTO {keyspace.name}.t (id, at) VALUES (1, 0)")

    def there() -> bool | None:
        with closing(connected(stack, "events")) as connection:
            found = connection.execute(f"SELECT count(*) FROM {keyspace.name}.t".encode())
            return found.fetchone() == (1,) or None

    wait_for(there)
