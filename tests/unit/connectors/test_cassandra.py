"""What of the Cassandra connector needs no node: settings, types, lines, findings, ranks."""

from __future__ import annotations

import json
import struct
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from htapkit.errors import ConfigError, SourceRefused
from htapkit.model import Finding, Severity
from htapkit.spi import SourceOptions
from htapkit_cassandra import CassandraSource, folders, jars, preflight
from htapkit_cassandra.catalog import reduced
from htapkit_cassandra.follow import Following, LogStream, NodeLog
from htapkit_cassandra.here import Here
from htapkit_cassandra.horizons import Horizons
from htapkit_cassandra.lines import Lines
from htapkit_cassandra.marks import Marks
from htapkit_cassandra.mutations import (
    Cell,
    LogEvent,
    LogPosition,
    Mutation,
    RowWrite,
    Synced,
)
from htapkit_cassandra.owed import Owed
from htapkit_cassandra.positions import Reached, reached
from htapkit_cassandra.preflight import Facts
from htapkit_cassandra.rowreads import RowReads
from htapkit_cassandra.segments import forget, newest, segments
from htapkit_cassandra.settings import Settings, parse_settings
from htapkit_cassandra.tails import Tails
from htapkit_cassandra.ticks import Ticks
from htapkit_cassandra.types import column, sql_type
from htapkit_cassandra.waiting import EVENTS_MAX, Waiting

ROOT = Path(__file__).parents[3]


def _options(**settings: object) -> SourceOptions:
    return SourceOptions("events", settings, 5, 1, 1, 1, 1, None)


def test_the_core_has_never_heard_of_it() -> None:
    """The framework is one only if a second source needs no word in it."""
    paths = [p for p in (ROOT / "htapkit").rglob("*") if p.suffix in {".py", ".md", ".sql"}]
    assert len(paths) > 100
    assert not [p for p in paths if "cassandra" in p.read_text(encoding="utf-8").lower()]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"dsn": "x"}, "unknown key sources.events.dsn"),
        ({"hosts": "127.0.0.1"}, "sources.events.hosts"),
        ({"port": 0}, "sources.events.port"),
        ({"tables": ["!demo.x"]}, "sources.events.tables"),
        ({"tables": ["demo"]}, "sources.events.tables"),
        ({"helper_memory": "lots"}, "sources.events.helper_memory"),
        ({"read_consistency": "SOME"}, "sources.events.read_consistency: expected one of ALL"),
        ({"user": "u"}, "user and password"),
        ({"user": "u", "password": ["secret"]}, "sources.events.password"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], named: str) -> None:
    """The key, and never the password."""
    with pytest.raises(ConfigError) as raised:
        parse_settings(_options(**settings))
    assert named in str(raised.value)
    assert "secret" not in str(raised.value)


def test_patterns_choose_tables() -> None:
    """As everywhere: `!` excludes."""
    settings = parse_settings(_options(tables=["demo.*", "!demo.x*"]))
    chosen = [n for n in ("events", "x1") if settings.wants("demo", n)]
    assert chosen == ["events"]
    assert not settings.wants("other", "events")
    assert "secret" not in repr(parse_settings(_options(user="u", password="secret")))


def test_types() -> None:
    """Native where each value fits, else text; text sorts by its bytes."""
    assert sql_type("timestamp").name == "timestamptz"
    assert sql_type("time").name == "text", "nanoseconds"
    assert sql_type("frozen<list<int>>").name == "json"
    assert sql_type("vector<float, 3>").dimensions == 3
    assert sql_type("vector<int, 3>") == sql_type("vector<float, 16001>") == sql_type("list<int>")
    assert column("a", "vector<float, 3>", 1, nullable=False, identifies=True).type.name == "json"
    assert column("a", "text", 1, nullable=True).binary_order
    assert not column("a", "inet", 1, nullable=True).binary_order


def test_ranks_decide_as_the_database_does() -> None:
    """From the smallest to the largest; the later write first of all."""
    plain = Cell("a", 5, b"a")
    ranked = [
        plain,
        replace(plain, value=b"b"),
        replace(plain, value=b"\xff"),
        replace(plain, ttl=10, expires=100),
        replace(plain, ttl=10, expires=200),
        replace(plain, ttl=9, expires=200, value=b""),
        replace(plain, value=None, expires=50),
        replace(plain, written=6, value=b""),
    ]
    assert all(low.rank < high.rank for low, high in pairwise(ranked))


def _row(**more: object) -> bytes:
    row = {"kind": "row", "table": "t", "key": ["00000001"], "clustering": ["61"]}
    return json.dumps({**row, "static": False, "cells": [], **more}).encode()


def test_a_mutation_comes_only_with_its_end() -> None:
    """Rows without an end are none; the next mutation begins empty."""
    lines = Lines()
    cells = [
        {"column": "m", "reset": 4},
        {"column": "m", "written": 5, "path": "6b", "value": ""},
        {"column": "a", "written": 5, "expires": 1},
    ]
    assert lines.feed(_row(cells=cells, written=5)) is None
    assert lines.feed(_row(deleted=7)) is None
    mutation = lines.feed(b'{"kind": "end", "segment": 3, "offset": 40}')
    assert isinstance(mutation, Mutation)
    first, second = mutation.changes
    assert isinstance(first, RowWrite)
    assert first.key == (struct.pack(">i", 1),)
    assert first.cells == (Cell("m", 5, b"", b"k"), Cell("a", 5, None, expires=1))
    assert [(r.column, r.deleted) for r in first.resets] == [("m", 4)]
    assert isinstance(second, RowWrite)
    assert second.deleted == 7
    again = lines.feed(b'{"kind": "end", "segment": 3, "offset": 50}')
    assert again == Mutation((), LogPosition(3, 50))
    synced = lines.feed(b'{"kind": "synced", "segment": 3, "offset": 60}')
    assert synced == Synced(LogPosition(3, 60))
    with pytest.raises(SourceRefused, match="format 9"):
        lines.feed(b'{"kind": "ready", "format": 9, "tables": []}')


def test_statements_are_reduced_to_what_decoding_needs() -> None:
    """The id, cdc and the order stay; the ALTERs that record dropped columns, too."""
    statement = (
        "CREATE TABLE demo.t (\n    a int,\n    PRIMARY KEY (a)\n) WITH ID = 1-2\n"
        "    AND CLUSTERING ORDER BY (b DESC)\n    AND cdc = true\n"
        "    AND compression = {'class': 'x'}\n    AND comment = '; x';\n"
        "ALTER TABLE demo.t DROP w USING TIMESTAMP 5;"
    )
    assert reduced(statement) == [
        "CREATE TABLE demo.t (\n    a int,\n    PRIMARY KEY (a)\n) WITH ID = 1-2"
        " AND CLUSTERING ORDER BY (b DESC) AND cdc = true",
        "ALTER TABLE demo.t DROP w USING TIMESTAMP 5",
    ]


def test_newest_position(tmp_path: Path) -> None:
    """Of the newest index that says something; a missing folder is an error or nothing."""
    assert newest(tmp_path) is None
    (tmp_path / "CommitLog-7-100_cdc.idx").write_text("500\nCOMPLETED")
    (tmp_path / "CommitLog-7-200_cdc.idx").write_text("30")
    (tmp_path / "CommitLog-7-300_cdc.idx").write_text("")
    gone = tmp_path / "gone"
    (tmp_path / "CommitLog-7-400_cdc.idx").symlink_to(gone)  # listed, and not there any more
    (tmp_path / "CommitLog-7-150.log").symlink_to(gone)
    assert newest(tmp_path) == LogPosition(200, 30)
    assert segments(tmp_path).behind(LogPosition(100, 500)) == 30


def test_only_files_that_lie_wholly_before_a_position_are_deleted(tmp_path: Path) -> None:
    """The segment of the position stays, and its index; what is behind it is counted."""
    for segment, size in ((100, 70), (200, 80), (300, 50)):
        (tmp_path / f"CommitLog-7-{segment}.log").write_bytes(b"x" * size)
        (tmp_path / f"CommitLog-7-{segment}_cdc.idx").write_text("40\n")
    behind = segments(tmp_path).behind
    assert behind(LogPosition(100, 30)) == 70 - 30 + 80 + 40
    assert behind(LogPosition(300, 15)) == 25
    assert behind(LogPosition(300, 40)) == 0
    forget(tmp_path, LogPosition(200, 5))
    left = sorted(path.name for path in tmp_path.iterdir())
    kept = [f"CommitLog-7-{n}{end}" for n in (200, 300) for end in (".log", "_cdc.idx")]
    assert left == kept


@pytest.mark.parametrize(("bytes_max", "events"), [(1000, 20), (70, 7)])
def test_what_is_of_other_tables_ends_a_batch_too(
    tmp_path: Path, bytes_max: int, events: int
) -> None:
    """A log that always has more is given out in parts, by number or by size, each with a place."""

    class Endless(Tails):
        dropped = 0

        def __init__(self) -> None:
            self.count = 0

        def next(self, timeout_seconds: float) -> tuple[str, LogEvent] | None:  # noqa: ARG002
            assert self.count < 50, "a batch without an end"
            self.count += 1
            return "node", Mutation((), LogPosition(1, self.count), 10)

    following = Following(
        "events",
        {"node": NodeLog("127.0.0.1", Here(str(tmp_path)))},
        deletes_files=False,
        batch_rows_max=20,
        batch_bytes_max=bytes_max,
    )
    marks = Marks(Settings("events"), Ticks())
    owed = Owed(RowReads(Settings("events"), Ticks()), Horizons(Ticks()))
    stream = LogStream(following, Endless(), Reached(), marks, CassandraSource(_options()), owed)
    first, second = stream.next(0), stream.next(0)
    assert first is not None
    assert second is not None
    assert second.end == Reached({"node": LogPosition(1, events)}).position()


def test_what_waits_is_bounded_by_bytes_and_by_number() -> None:
    """A larger event waits alone; one who waits to put goes on when it is closed."""
    waiting: Waiting[int] = Waiting(100)
    seen: list[int] = []

    def put() -> None:
        for number in range(1000):
            waiting.put(number, 250 if number == 0 else 30 if number < 10 else 0)
            seen.append(number)

    thread = threading.Thread(target=put, daemon=True)
    thread.start()

    def put_and_waits(count: int) -> None:
        until = time.monotonic() + 10
        while len(seen) < count and time.monotonic() < until:
            thread.join(0.001)
        thread.join(0.05)
        assert len(seen) == count
        assert thread.is_alive()

    put_and_waits(1)
    assert waiting.bytes == 250
    assert waiting.get(1) == 0
    put_and_waits(4)
    assert waiting.bytes == 90
    for number in range(1, 10):
        assert waiting.get(1) == number
    put_and_waits(10 + EVENTS_MAX)
    assert waiting.bytes == 0
    waiting.close()
    thread.join(10)
    assert not thread.is_alive()
    assert Waiting[int](1).get(0) is None


def test_folders_that_a_kill_left_are_taken_over(tmp_path: Path) -> None:
    """Beside the copy they have one place; without it they are temporary."""
    left = folders.fresh(tmp_path / "sources", "log")
    (left / "core").mkdir()
    (left / "core" / "file").write_text("x")
    again = folders.fresh(tmp_path / "sources", "log")
    assert (again, list(again.iterdir())) == (left, [])
    assert [path.name for path in (tmp_path / "sources").iterdir()] == ["log"]
    folders.remove(again)
    folders.remove(again)
    assert not again.exists()
    first, second = folders.fresh(None, "log"), folders.fresh(None, "log")
    assert first != second
    folders.remove(first)
    folders.remove(second)


def test_lines_tell_the_size_of_a_mutation() -> None:
    """Of its own lines, not of those before it."""
    lines = Lines()
    told = [
        b'{"kind": "partition", "table": "t", "key": ["00"], "deleted": 1}\n',
        b'{"kind": "end", "segment": 1, "offset": 2}\n',
    ]
    for _ in range(2):
        lines.feed(b'{"kind": "synced", "segment": 1, "offset": 1}\n')
        assert lines.feed(told[0]) is None
        mutation = lines.feed(told[1])
        assert isinstance(mutation, Mutation)
        assert mutation.size == len(told[0]) + len(told[1])


def test_positions_of_several_nodes() -> None:
    """Covered only if every node's place is."""
    covers = CassandraSource(_options()).positions.covers
    low = Reached({"a": LogPosition(9, 50)}, 3).position()
    high = Reached({"a": LogPosition(10, 4), "b": LogPosition(1, 1)}, 3).position()
    assert covers(high, low)
    assert not covers(low, high)
    assert covers(low, low)
    assert covers(low, Reached(mark=3).position())
    assert not covers(high, Reached(mark=4).position()), "its mark is not there yet"
    counted = Reached({"a": LogPosition(9, 50)}, 3, 7)
    assert reached(counted.position()) == counted
    assert covers(counted.position(), low)
    assert not covers(low, counted.position()), "counters were read since"


def _errors(findings: list[Finding]) -> list[str]:
    return [f.subject for f in findings if f.severity is Severity.ERROR]


GOOD = Facts("5.0.9", {"cdc_enabled": "true", "commitlog_sync": "periodic"}, "/cdc", True, 5)


@pytest.mark.parametrize(
    ("facts", "subject"),
    [
        (replace(GOOD, version="3.11.4"), "version"),
        (replace(GOOD, settings={"cdc_enabled": "false"}), "cdc_enabled"),
        (replace(GOOD, folder=""), "cdc_raw"),
        (replace(GOOD, readable=False), "cdc_raw"),
    ],
)
def test_findings_of_a_node(facts: Facts, subject: str) -> None:
    """Each thing that is wrong is one error of that name; a good node has none."""

    def found(of: Facts) -> list[str]:
        folder = preflight.folder_findings(Settings("events"), of)
        return _errors([*preflight.server_findings(of), *folder])

    assert found(GOOD) == []
    assert found(facts) == [subject]


def test_warnings_of_a_node() -> None:
    """A slow sync, and a folder that fills."""
    slow = {**GOOD.settings, "commitlog_sync_period_in_ms": "10000"}
    full = {**slow, "cdc_total_space": "8B", "cdc_block_writes": "true"}
    facts = replace(GOOD, settings=full)
    folder = list(preflight.folder_findings(Settings("events"), facts))
    server = list(preflight.server_findings(facts))
    warned = [f for f in server + folder if f.severity is Severity.WARNING]
    assert [f.subject for f in warned] == ["commitlog_sync_period", "cdc_raw"]
    assert "writes are refused" in warned[1].message
    tried = next(preflight.server_findings(replace(GOOD, version="6.0-alpha2")))
    assert (tried.severity, tried.subject) == (Severity.WARNING, "version")
    assert [preflight.listed(t) for t in ("", "[/a, /b]", '["/a", "/b"]')] == [
        [],
        *[["/a", "/b"]] * 2,
    ]
    assert [preflight.size(t) for t in ("256MiB", "1GiB", "x")] == [1 << 28, 1 << 30, 0]


def test_jars_of_an_installation(tmp_path: Path) -> None:
    """They are used as they are, and a wrong folder is said."""
    with pytest.raises(SourceRefused, match="cassandra_home"):
        jars.classpath(str(tmp_path))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "apache-cassandra-5.0.9.jar").touch()
    assert jars.classpath(str(tmp_path)) == f"{tmp_path}/lib/*"
    assert jars.version().startswith("5.0.")
