"""For what the copy of a ring vouches: whose logs are enough, by the consistency of the writers."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
from cassandra.cluster import Session

from htapkit.errors import ConfigError, SourceRefused
from htapkit.ingest.status import logs_behind
from htapkit.model import Position, Severity, TableId, TableSchema
from htapkit.spi import Discovered, LogLag, SourceOptions
from htapkit_cassandra import preflight
from htapkit_cassandra.cluster import Sessions
from htapkit_cassandra.lags import Lags
from htapkit_cassandra.marks import Marks
from htapkit_cassandra.positions import Reached, reached
from htapkit_cassandra.replicas import Member, Part, Placed, place
from htapkit_cassandra.settings import Settings, parse_settings
from htapkit_cassandra.ticks import Ticks
from htapkit_cassandra.tokens import PARTITIONER

SIMPLE = "org.apache.cassandra.locator.SimpleStrategy"
THREE = tuple(Member(f"n{n}", f"10.0.0.{n}", "dc", "1", frozenset({n})) for n in range(3))


@dataclass
class _Cluster:
    """Nodes that acknowledge and log, a reader of the logs, and where keyspace `k` lies now."""

    roll: random.Random
    nodes: tuple[str, ...] = ("a", "b", "c", "d", "e")
    logs: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    acknowledged: list[tuple[int, int]] = field(default_factory=list)  # (time, write)
    begun: dict[int, int] = field(default_factory=dict)  # of each mark
    now: int = 0
    number: int = 0
    unseen: int = 0  # a mark that nobody has looked behind yet
    vouched: int = 0

    def __post_init__(self) -> None:
        self.logs = {node: [] for node in self.nodes}
        self.read = dict.fromkeys(self.nodes, 0)
        self.alter()
        self.at = Reached()
        self.stored = (self.at, dict(self.read))
        self.lags = Lags(self.nodes)

    def alter(self) -> None:
        """Other replicas, another number, as never before."""
        self.number += 1
        factor = self.roll.choice([1, 3, 3, 3])
        sets = [frozenset(self.roll.sample(self.nodes, factor)) for _ in range(3)]
        self.parts = [Part(each, factor // 2 + 1) for each in sets]
        self.placed = {"k": Placed(frozenset(frozenset({p}) for p in self.parts), f"{self.number}")}

    def write(self) -> None:
        """By as few as are enough, and perhaps later by others."""
        part = self.roll.choice(self.parts)
        self.number += 1
        for node in self.roll.sample(sorted(part.nodes), part.acknowledge):
            self.logs[node].append(("write", self.number))
        self.acknowledged.append((self.now, self.number))

    def mark(self) -> None:
        """It reaches some nodes."""
        if not self.unseen:
            self.number += 1
            self.unseen = self.number
            self.begun[self.unseen] = self.now
            self.lags.written(self.unseen, self.now)
            for node in self.roll.sample(self.nodes, self.roll.randrange(3, 6)):
                self.logs[node].append(("mark", self.unseen))

    def look(self) -> None:
        """Behind a mark."""
        if self.unseen:
            self.lags.looked(self.unseen, self.placed, self.now)
            self.unseen = 0
            self.at = self.at.vouched(self.lags.vouched())

    def step(self) -> None:
        """Of one log's reader; some are slower."""
        node = self.roll.choice(self.nodes + ("a", "b", "c") * 2)
        if self.read[node] < len(self.logs[node]):
            kind, number = self.logs[node][self.read[node]]
            self.read[node] += 1
            if kind == "mark":
                self.lags.came(node, number, self.now)
                self.at = self.at.vouched(self.lags.vouched())

    def store(self) -> None:
        """As a batch is."""
        self.stored = (reached(self.at.position()), dict(self.read))

    def again(self) -> None:
        """From what is stored; a mark that was being written is nobody's."""
        self.at, self.read = self.stored[0], dict(self.stored[1])
        self.lags, self.unseen = Lags(self.nodes, self.at.through, self.at.placed), 0
        self.lags.followed(self.placed)

    def missed(self) -> list[int]:
        """What was acknowledged before the mark that is vouched for, and was not read."""
        have = {
            number
            for node in self.nodes
            for kind, number in self.logs[node][: self.read[node]]
            if kind == "write"
        }
        before = self.begun.get(self.at.mark, 0)
        return [write for when, write in self.acknowledged if when < before and write not in have]


def test_nothing_that_was_acknowledged_is_missed() -> None:
    """Through slow logs, lost marks, altered replication and restarts; some logs are left out."""
    seed, without = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32), 0
    print(f"CASSANDRA_SEED={seed}")
    for run in range(150):
        cluster = _Cluster(random.Random(f"{seed} {run}"))
        steps = (
            (cluster.roll.choice([30, 80]), cluster.step),
            (12, cluster.write),
            (4, cluster.mark),
            (cluster.roll.choice([1, 8]), cluster.look),
            (3, cluster.store),
            (0.5, cluster.again),
            (cluster.roll.choice([0.1, 1]), cluster.alter),
        )
        for cluster.now in range(1, 400):
            (step,) = cluster.roll.choices([s for _, s in steps], [weight for weight, _ in steps])
            step()
            missed = cluster.missed()
            assert missed == [], (run, cluster.now, step)
            without += cluster.at.mark > cluster.at.through
    assert without > 1000, "it never did without a log"


def test_a_log_that_is_missing_is_done_without() -> None:
    """As long as a quorum cannot be in it alone; what came through all is told apart."""
    placed = {"k": place("QUORUM", {"class": SIMPLE, "replication_factor": "3"}, THREE)}
    lags = Lags(("n0", "n1", "n2"))
    lags.followed(placed)

    def written(mark: int, *logs: str) -> tuple[int, int]:
        lags.written(mark, mark)
        lags.looked(mark, placed, mark)
        for log in logs:
            lags.came(log, mark, mark + 0.5)
        now = lags.vouched()
        return now.mark, now.through

    assert written(1, "n0", "n1") == (0, 0), "nobody knows how rows lay before"
    assert written(2, "n0", "n1", "n2") == (2, 2)
    assert written(3, "n0") == (2, 2)
    assert written(4, "n0", "n1") == (4, 2)
    assert written(60, "n1", "n0") == (60, 2)
    assert (lags.seconds("n2", 63.0), lags.vouched_seconds(63.0)) == (60.0, 0.5)
    lags.written(61, 61.0)
    lags.came("n0", 61, 61.0)
    lags.came("n1", 61, 61.0)
    assert lags.mark == 60, "nobody has looked behind it"
    lags.looked(61, placed, 62.0)
    assert (lags.mark, lags.vouched_seconds(62.0)) == (61, 1.0)
    stored = reached(Reached({}, 2).vouched(lags.vouched()).position())
    assert (stored.mark, stored.through) == (61, 2)

    again = Lags(("n0", "n1", "n2"), stored.through, stored.placed)
    again.followed(placed)
    again.looked(70, placed, 70.0)
    again.came("n0", 70, 70.0)
    again.came("n1", 70, 70.0)
    assert again.mark == 70, "a restart changes nothing of how rows lie"
    pairs = {"class": SIMPLE, "replication_factor": "2"}
    other = {"k": place("QUORUM", pairs, THREE)}
    again.looked(80, other, 80.0)
    again.came("n0", 80, 80.0)
    again.came("n1", 80, 80.0)
    assert again.mark == 2
    assert stored.vouched(again.vouched()).placed is None
    again.came("n2", 80, 80.0)
    again.looked(81, other, 81.0)
    again.came("n0", 81, 81.0)
    again.came("n1", 81, 81.0)
    assert again.mark == 80, "what was written between that mark and that look"
    again.came("n2", 81, 81.0)
    again.looked(82, other, 82.0)
    again.came("n0", 82, 82.0)
    again.came("n1", 82, 82.0)
    assert again.mark == 82


# -- what is said of it


def test_the_key_is_checked() -> None:
    """Only what is exact is allowed: a consistency whose acknowledgements are known."""
    options = SourceOptions("events", {"write_consistency": "ANY"}, 5, 1, 1, 1, 1, None)
    with pytest.raises(ConfigError, match=r"events\.write_consistency: .* ONE, LOCAL_QUORUM"):
        parse_settings(options)


def test_positions_of_before_go_on() -> None:
    """One that says nothing of a log that was missing had none."""
    before = Position('{"mark": 5, "nodes": {"a": [1, 2]}}')
    assert reached(before).through == 5
    assert reached(before).position() == before
    assert reached(Reached(mark=7, heard=3, placed={}).position()).through == 3


def test_status_says_who_is_missing_and_what_is_fresh() -> None:
    """Once for all logs; nothing of it where no log is behind."""
    marks = Marks(Settings("events", write_consistency="QUORUM"), Ticks())
    said = marks.vouched_for(1.0)
    assert "QUORUM" in said
    assert "0.0 s behind" in said
    logs = [
        LogLag("a", 0, 0.1, "", said),
        LogLag("b", 0, 9.0, "", said),
        LogLag("c", 0, 0, "x", said),
    ]
    assert logs_behind(logs) == ("b is 9 s behind", "c is 0 s behind: x", said)
    assert logs_behind(logs[:1]) == ()
    assert Marks(Settings("events"), Ticks()).vouched_for(1.0) == ""


class _Row:
    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)


class _Node:
    """Says of three nodes, one of them itself, and of two keyspaces."""

    def __init__(self) -> None:
        self.factors = {"thrice": "3", "once": "1"}
        self.others = [1, 2]
        self.partitioner = PARTITIONER
        self.asked: list[str] = []

    @contextmanager
    def first(self) -> Iterator[_Node]:
        yield self

    def execute(self, cql: str, _: object = None) -> list[_Row]:
        self.asked.append(cql)
        if cql.startswith("INSERT"):
            return []
        if "keyspaces" in cql:
            return [
                _Row(keyspace_name=k, replication={"class": SIMPLE, "replication_factor": n})
                for k, n in self.factors.items()
            ]
        local = "system.local" in cql
        return [
            _Row(
                host_id=f"n{n}",
                rpc_address=f"10.0.0.{n}",
                native_address=f"10.0.0.{n}",
                data_center="dc",
                rack="r",
                tokens=[str(n - 5)],
                partitioner=self.partitioner,
            )
            for n in ([0] if local else self.others)
        ]


def test_the_preflight_says_how_many_may_be_missing() -> None:
    """Of a keyspace with one replica none may."""
    nodes = [{"address": f"10.0.0.{n}", "cdc_raw": "/x"} for n in range(3)]
    given = {"nodes": nodes, "write_consistency": "QUORUM"}
    settings = parse_settings(SourceOptions("events", given, 5, 1, 1, 1, 1, None))
    tables = [
        Discovered(TableSchema(TableId("events", name, "t"), (), ()), "")
        for name in ("thrice", "once")
    ]
    once, thrice = preflight._write_findings(settings, cast("Session", _Node()), tables)
    assert (once.severity, thrice.severity) == (Severity.WARNING, Severity.OK)
    assert "once" in once.message
    assert "thrice is fresh while 1 node may be missing" in thrice.message
    node = _Node()
    node.partitioner = "org.apache.cassandra.dht.ByteOrderedPartitioner"
    found = preflight._write_findings(settings, cast("Session", node), tables)
    assert {each.severity for each in found} == {Severity.WARNING}, "their order is not known"
    plain = parse_settings(SourceOptions("events", {"nodes": nodes}, 5, 1, 1, 1, 1, None))
    assert list(preflight._write_findings(plain, cast("Session", _Node()), tables)) == []


def test_behind_each_mark_somebody_looks() -> None:
    """At who acknowledges: altered replication, or another node, is not vouched for."""
    node, nodes = _Node(), ("n0", "n1", "n2")
    marks = Marks(Settings("events", write_consistency="QUORUM"), Ticks())
    marks._sessions = cast("Sessions", node)
    marks.begin_after(Reached(), nodes)
    marks.expect({"thrice"})

    def written(*logs: str) -> int:
        node.asked.clear()
        mark = reached(marks.head()).mark
        assert node.asked[0].startswith("INSERT"), "what is seen before says nothing of then"
        for log in logs:
            marks.lags.came(log, mark, 0.0)
        return mark

    written(*nodes)
    assert written(*nodes) == marks.lags.mark
    assert written("n0", "n2") == marks.lags.mark
    node.factors["thrice"] = "2"
    assert written("n0", "n2") > marks.lags.mark
    written(*nodes)
    assert written("n0", "n2") == marks.lags.mark
    node.others.append(3)
    with pytest.raises(SourceRefused, match=r"10\.0\.0\.3"):
        marks.head()
    assert marks.stopped


def test_at_one_nobody_looks() -> None:
    """A mark costs what it cost; it counts once it came through all logs."""
    node, nodes = _Node(), ("n0", "n1", "n2")
    marks = Marks(Settings("events"), Ticks())
    marks._sessions = cast("Sessions", node)
    marks.begin_after(Reached(), nodes)
    marks.expect({"thrice"})
    assert node.asked == []
    mark = reached(marks.head()).mark
    assert len(node.asked) == 3
    assert not any("tokens" in cql or "keyspaces" in cql for cql in node.asked)
    for log in nodes:
        assert marks.lags.mark == 0
        marks.lags.came(log, mark, 0.0)
    assert marks.lags.mark == mark
