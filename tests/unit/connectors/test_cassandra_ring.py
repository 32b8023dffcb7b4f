"""What several nodes need and one does not: places, marks and readers side by side. No node."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from htapkit.errors import ConfigError, PositionLost, SourceRefused, SourceUnavailable
from htapkit.ingest.status import logs_behind
from htapkit.model import Broken, Severity, TableId, TableSchema
from htapkit.spi import Discovered, LogLag, SourceOptions
from htapkit_cassandra import CassandraSource, catalog, preflight
from htapkit_cassandra.follow import Following, LogStream, NodeLog
from htapkit_cassandra.here import Here
from htapkit_cassandra.horizons import Horizons
from htapkit_cassandra.lags import Lags
from htapkit_cassandra.marks import KEYSPACE, TABLE, Marks
from htapkit_cassandra.mutations import (
    Cell,
    LogEvent,
    LogPosition,
    LogTable,
    Mutation,
    Ready,
    RowWrite,
)
from htapkit_cassandra.owed import Owed
from htapkit_cassandra.positions import Reached, reached
from htapkit_cassandra.replicas import Member, Part, Placed
from htapkit_cassandra.ring import Ring, placed, whole
from htapkit_cassandra.rowreads import RowReads
from htapkit_cassandra.settings import Settings, parse_settings
from htapkit_cassandra.tail import LogTail
from htapkit_cassandra.tails import Tails
from htapkit_cassandra.ticks import Ticks
from htapkit_cassandra.truncations import Truncations
from htapkit_cassandra.types import column

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
FOR_EVER = 86_400.0
MEMBERS = tuple(Member(f"id{n}", host, "dc") for n, host in enumerate(HOSTS))


def _settings(hosts: tuple[str, ...] = HOSTS, **more: object) -> SourceOptions:
    nodes = [{"address": host, "cdc_raw": f"/{host}/cdc_raw"} for host in hosts]
    return SourceOptions("events", {"nodes": nodes, **more}, 5, 1, 1, 1, 1, None)


def test_nodes_have_keys_of_their_own() -> None:
    """Each is as a source with one node would be."""
    options = _settings()
    settings = parse_settings(options)
    assert settings.hosts == HOSTS
    assert [(one.hosts, one.cdc_raw, one.nodes) for one in settings.each()] == [
        ((host,), f"/{host}/cdc_raw", ()) for host in HOSTS
    ]
    alone = parse_settings(SourceOptions("events", {"cdc_raw": "/x"}, 5, 1, 1, 1, 1, None))
    assert alone.each() == (alone,)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"nodes": [{"cdc_raw": "/x"}]}, "nodes[0].address"),
        ({"nodes": [{"address": "a"}]}, "nodes[0].cdc_raw"),
        ({"nodes": [{"address": "a", "cdc_raw": "/x", "port": 1}]}, "unknown key"),
        ({"nodes": ["a"]}, "sources.events.nodes"),
        ({"nodes": [{"address": "a", "cdc_raw": "/x"}] * 2}, "same address"),
        ({"nodes": [{"address": "a", "cdc_raw": "/x"}], "cdc_raw": "/y"}, "cdc_raw beside nodes"),
        ({"nodes": [{"address": "a", "cdc_raw": "/x", "data_folders": "/d"}]}, "data_folders"),
    ],
)
def test_wrong_nodes_are_named(settings: dict[str, object], named: str) -> None:
    """With their number."""
    with pytest.raises(ConfigError) as raised:
        parse_settings(SourceOptions("events", settings, 5, 1, 1, 1, 1, None))
    assert named in str(raised.value)


def test_every_node_of_the_ring_is_to_be_configured() -> None:
    """One that is missing, or is none, is an error that names it."""
    ring = placed(parse_settings(_settings()), MEMBERS)
    assert {node: one.hosts for node, one in ring.nodes.items()} == {
        member.host_id: (member.address,) for member in MEMBERS
    }
    assert whole(parse_settings(_settings()), ring).identity == "id0,id1,id2"

    def errors(hosts: tuple[str, ...], members: tuple[Member, ...]) -> list[str]:
        settings = parse_settings(_settings(hosts))
        found = preflight.ring_findings(settings, placed(settings, members))
        return [f.message for f in found if f.severity is Severity.ERROR]

    assert errors(HOSTS, MEMBERS) == []
    (missing,) = errors(HOSTS[:2], MEMBERS)
    assert "127.0.0.3" in missing
    (absent,) = errors(HOSTS, MEMBERS[:2])
    assert "127.0.0.3 is not in the ring" in absent
    alone = Settings("events", ("127.0.0.1",), cdc_raw="/x")
    (several,) = preflight.ring_findings(alone, placed(alone, MEMBERS))
    assert several.severity is Severity.ERROR
    assert "sources.events.nodes" in several.message


def test_a_mark_counts_once_it_came_through_every_log() -> None:
    """A log that shows none holds the others back, and says for how long."""
    lags = Lags(("a", "b"), through=5)
    assert lags.mark == 5
    lags.written(10, now=100.0)
    lags.came("a", 10, now=100.5)
    assert (lags.mark, lags.seconds("a", 200.0), lags.seconds("b", 103.0)) == (5, 0.5, 3.0)
    lags.written(11, now=101.0)
    lags.came("a", 11, now=101.25)
    assert (lags.mark, lags.seconds("a", 200.0), lags.seconds("b", 104.0)) == (5, 0.25, 4.0)
    lags.came("b", 11, now=105.0)  # the first never came: it was not hinted
    assert (lags.mark, lags.seconds("b", 200.0)) == (11, 5.0)
    lags.came("b", 10, now=106.0)  # a hint of before
    assert lags.mark == 11


class _Told(LogTail):
    """A tail that gives what it is told, and starts once it may."""

    def __init__(self, events: list[LogEvent], *, down: bool = False) -> None:
        self.events = deque(events)
        self.down = down
        self.tries = 0
        self.dropped = set()
        self.why = ""
        self._runs = False

    @property
    def pid(self) -> int | None:
        return 1 if self._runs else None

    @property
    def due(self) -> bool:
        return not self._runs

    @property
    def queued_bytes(self) -> int:
        return 1

    def start(self) -> None:
        self.tries += 1
        if self.down:
            self.why = "it is down"
            raise SourceUnavailable(self.why)
        self.why, self._runs = "", True

    def next(self, timeout_seconds: float) -> LogEvent | None:  # noqa: ARG002
        return self.events.popleft() if self.events else None

    def close(self) -> None:
        self._runs = False


def _log(mark: int, reader: str, end: int) -> list[LogEvent]:
    """A reader's first lines: the table of marks, and a mark."""
    cells = (Cell("mark", 1, mark.to_bytes(8, "big")),)
    row = RowWrite("marks-id", (reader.encode(),), (), cells)
    table = LogTable("marks-id", KEYSPACE, TABLE, (), (), (), ())
    return [Ready({"marks-id": table}), Mutation((row,), LogPosition(7, end), 10)]


def _stream(tails: Tails, marks: Marks, tmp_path: Path, nodes: tuple[str, ...]) -> LogStream:
    logs = {node: NodeLog(f"host-{node}", Here(str(tmp_path))) for node in nodes}
    following = Following("events", logs, deletes_files=False, batch_rows_max=9, batch_bytes_max=99)
    start = Reached(dict.fromkeys(nodes, LogPosition(1, 1)))
    marks.begin_after(start, nodes)
    owed = Owed(RowReads(parse_settings(_settings()), Ticks()), Horizons(Ticks()))
    return LogStream(following, tails, start, marks, CassandraSource(_settings()), owed)


def test_a_node_that_is_down_keeps_its_place_and_the_mark(tmp_path: Path) -> None:
    """The others' logs go on; what is fresh is said only when its log has the mark, too."""
    marks = Marks(parse_settings(_settings()), Ticks())
    reader = marks._reader
    up, down = _Told(_log(10, reader, 50)), _Told(_log(10, reader, 60), down=True)
    tails = Tails({"a": up, "b": down}, threading.Event())
    stream = _stream(tails, marks, tmp_path, ("a", "b"))
    marks.lags.written(10, time.monotonic())
    covers = CassandraSource(_settings()).positions.covers
    asked = Reached(mark=10).position()

    def until(end: dict[str, int]) -> Reached:
        deadline = time.monotonic() + 30
        while True:
            assert time.monotonic() < deadline
            batch = stream.next(0.1)
            if batch is not None:
                found = reached(batch.end)
                if {node: at.offset for node, at in found.nodes.items()} == end:
                    return found

    before = until({"a": 50, "b": 1})
    assert not covers(before.position(), asked)
    lags = {lag.log: lag for lag in stream.logs()}
    assert (lags["host-a"].why, lags["host-b"].why) == ("", "it is down")
    assert any("host-b" in text and "it is down" in text for text in logs_behind(stream.logs()))
    down.down = False
    after = until({"a": 50, "b": 60})
    assert covers(after.position(), asked)
    assert logs_behind(stream.logs()) == ()
    assert down.tries > 1
    stream.close()


def test_a_log_that_is_not_needed_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is vouched for goes on; what is sure of counters waits for all logs."""
    marks = Marks(parse_settings(_settings(write_consistency="QUORUM")), Ticks())
    up, down = _Told(_log(10, marks._reader, 50)), _Told([], down=True)
    stream = _stream(Tails({"a": up, "b": down}, threading.Event()), marks, tmp_path, ("a", "b"))
    both = frozenset({frozenset({Part(frozenset({"a", "b"}), 2)})})
    marks.lags = Lags(("a", "b"), 0, {"k": "as before"})
    came: list[int] = []
    monkeypatch.setattr(stream._owed, "came", came.append)
    deadline = time.monotonic() + 30
    while stream._reached.nodes["a"].offset < 50:
        stream.next(0.1)
        assert time.monotonic() < deadline
    assert stream._reached.mark == 0, "nobody has looked behind it"
    marks.lags.looked(10, {"k": Placed(both, "as before")}, 0.0)
    stream.nudge()
    batch = stream.next(FOR_EVER)
    assert batch is not None, "a place that got no further, with what it vouches for"
    stream.nudge()
    assert stream.next(0) is None
    assert not stream._tails._woken.is_set(), "nothing is new"
    assert (reached(batch.end).mark, reached(batch.end).through) == (10, 0)
    assert set(came) == {0}
    assert "QUORUM" in logs_behind(stream.logs())[-1]
    stream.close()


def test_without_any_log_there_is_no_stream() -> None:
    """All nodes are down: that is the source's being unavailable, not its being quiet."""
    tails = Tails({node: _Told([], down=True) for node in "ab"}, threading.Event())
    with pytest.raises(SourceUnavailable, match="it is down"):
        tails.next(30)
    tails.close()


def test_a_log_behind_is_named() -> None:
    """By how much, and why, where that is known; a short wait is not worth a word."""
    logs = [LogLag("a", 0, 0.5, ""), LogLag("b", 0, 12.2, ""), LogLag("c", 0, 0.0, "it is down")]
    assert logs_behind(logs) == ("b is 12 s behind", "c is 0 s behind: it is down")
    assert logs_behind([LogLag("a", 0, 1.0, "")], seconds=1.0) == ("a is 1 s behind",)


def test_where_each_log_is_read_from(tmp_path: Path) -> None:
    """Its synced end at first, the stored place later; other nodes mean another copy."""
    nodes = {f"id{n}": Settings("events", cdc_raw=str(tmp_path / str(n))) for n in range(2)}
    ring = Ring(MEMBERS[:2], nodes)
    for n in range(2):
        (tmp_path / str(n)).mkdir()
    (tmp_path / "0" / "CommitLog-7-100_cdc.idx").write_text("40")
    source = CassandraSource(_settings())
    machines = {node: Here(one.cdc_raw) for node, one in nodes.items()}
    begun = source._begun(None, ring, machines)
    assert begun.nodes == {"id0": LogPosition(100, 40), "id1": LogPosition(0, 0)}
    assert source._begun(begun.position(), ring, machines) == begun
    with pytest.raises(PositionLost, match="other nodes"):
        source._begun(begun.position(), Ring(MEMBERS, {**nodes, "id2": nodes["id0"]}), {})
    quiet = Reached({}, 5).position()  # of one node that had logged nothing yet
    alone = Ring(MEMBERS[:1], {"id0": nodes["id0"]})
    assert source._begun(quiet, alone, {}) == Reached({"id0": LogPosition(0, 0)}, 5)


def _discovered(truncated: object) -> Discovered:
    told = {"id": "t", "truncated": truncated, "columns": [], "types": {}, "dropped": {}}
    return Discovered(TableSchema(TableId("events", "ks", "t"), (), ()), json.dumps(told))


@pytest.mark.parametrize(
    ("before", "now", "differs"),
    [
        ({"a": "01", "b": ""}, {"a": "01", "b": ""}, False),
        ({"a": "01", "b": ""}, {"a": "01", "b": "02"}, True),
        ({"a": "01", "b": "02"}, {"a": "01"}, False),  # b does not answer
        ({"a": "01"}, {"a": "01", "b": "02"}, False),  # it did not when the table was copied
        ("01", {"a": "01"}, False),  # as stored when there was only one node
        ("", {"a": "02"}, True),
    ],
)
def test_a_truncation_is_what_a_node_says_differently(
    before: object, now: object, differs: bool
) -> None:
    """A node that does not answer is no TRUNCATE."""
    found = _discovered(now)
    broken = catalog.compare(found.schema, _discovered(before).fingerprint, found)
    assert isinstance(broken, Broken) is differs


def test_a_column_that_is_kept_otherwise_now_is_copied_again() -> None:
    """By an older htapkit, which read the same of the node."""
    kept = {
        cql: replace(_discovered({}).schema, columns=(column("e", cql, 1, nullable=True),))
        for cql in ("vector<float, 3>", "list<float>")
    }
    found = Discovered(kept["vector<float, 3>"], _discovered({}).fingerprint)
    broken = catalog.compare(kept["list<float>"], found.fingerprint, found)
    assert broken is not None
    assert "another type" in broken.why
    assert catalog.compare(found.schema, found.fingerprint, found) is None


def test_what_a_node_logged_before_a_truncate_does_not_come_back() -> None:
    """Each node's place is one in its own log."""
    truncations = Truncations()
    record = (100).to_bytes(8, "big") + (7).to_bytes(4, "big") + bytes(8)
    truncations.told("a", {"t": record.hex()})
    truncations.told("b", {})
    assert truncations.of("t") == {"a": record.hex(), "b": ""}
    assert truncations.gone("a", "t", LogPosition(100, 7))
    assert not truncations.gone("a", "t", LogPosition(100, 8))
    assert not truncations.gone("b", "t", LogPosition(1, 1))


def test_a_tail_that_cannot_start_says_why_and_waits(tmp_path: Path) -> None:
    """And is due again by itself."""

    def schema() -> str:
        raise SourceUnavailable("nobody answers")

    tail = LogTail(Here(str(tmp_path)), schema)
    assert tail.due
    with pytest.raises(SourceUnavailable):
        tail.start()
    assert tail.why == "nobody answers"
    tail.close()


def test_a_ring_that_has_other_nodes_now_is_not_vouched_for() -> None:
    """`whole` is what `identity` and copies ask."""
    settings = parse_settings(_settings(HOSTS[:2]))
    with pytest.raises(SourceRefused, match=r"127\.0\.0\.3"):
        whole(settings, placed(settings, MEMBERS))


def test_a_node_that_has_joined_stops_the_stream(tmp_path: Path) -> None:
    """By its name, until it is configured: what it acknowledges would be missed."""
    marks = Marks(parse_settings(_settings()), Ticks())
    tails = Tails({"a": _Told([])}, threading.Event())
    stream = _stream(tails, marks, tmp_path, ("a",))
    assert stream.next(0) is not None
    marks.stopped = "127.0.0.9 is new"
    with pytest.raises(SourceRefused, match=r"127\.0\.0\.9"):
        stream.next(0)
    stream.close()


def test_what_a_copy_needs_of_a_node(tmp_path: Path) -> None:
    """Its JMX port, and its data folders where they are seen here."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        good = Here(str(tmp_path), jmx=f"127.0.0.1:{port}")

        def errors(here: Here, *said: str) -> list[str]:
            found = preflight.copy_findings(here.look(said))
            return [f.subject for f in found if f.severity is Severity.ERROR]

        assert errors(good, str(tmp_path)) == []
        assert errors(good, str(tmp_path), "/nowhere") == ["data_folders"]
        mounted = replace(good, data_folders=(str(tmp_path),))
        assert errors(mounted, "/nowhere") == []
    assert errors(good, str(tmp_path)) == ["jmx"]
