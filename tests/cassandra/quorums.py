"""An htapkit over a keyspace of a ring whose writers use QUORUM, and what it says meanwhile."""

from __future__ import annotations

import json
import re
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from htapkit.testing.stack import Stack
from htapkit_cassandra.node import CassandraNode
from htapkit_cassandra.replicas import place
from htapkit_cassandra.ring import members
from tests.fix_cassandra import SECONDS, connected, is_reader
from tests.fix_ring import CassandraRing, tool

_REPLICATED = "replication = {{'class': 'SimpleStrategy', 'replication_factor': {}}}"
_INSERT = "INSERT INTO level.t (id, v) VALUES (%s, %s)"
Row = tuple[object, ...]


class Leveled:
    """A whole htapkit over `level.t`, which has three replicas."""

    def __init__(self, ring: CassandraRing, folder: Path, session: Session) -> None:
        """Make the table. Nothing runs yet."""
        self.session = session
        session.execute(f"CREATE KEYSPACE level WITH {_REPLICATED.format(3)}")
        session.execute("CREATE TABLE level.t (id int PRIMARY KEY, v int) WITH cdc = true")
        settings = ring.settings(tables=["level.*"], write_consistency="QUORUM")
        self.stack = Stack(folder, {"events": {"connector": "cassandra", **settings}})

    def write(self, number: int, consistency: int = ConsistencyLevel.QUORUM) -> None:
        """A row."""
        statement = SimpleStatement(_INSERT, consistency_level=consistency)
        self.session.execute(statement, (number, number))

    def sees_each(self, numbers: range, consistency: int = ConsistencyLevel.QUORUM) -> None:
        """A strong read behind each write has it."""
        for number in numbers:
            self.write(number, consistency)
            assert self.asked(f"SELECT v FROM level.t WHERE id = {number}") == [(number,)]

    def asked(self, sql: str, wait_seconds: int = int(SECONDS)) -> list[Row]:
        """A strong read of the copy, whose node would be asked at ALL."""
        with closing(connected(self.stack, "events", wait_seconds=wait_seconds)) as connection:
            return connection.execute(sql.encode()).fetchall()

    def at_all(self) -> list[Row]:
        """What CQL gives."""
        statement = SimpleStatement(
            "SELECT id FROM level.t", consistency_level=ConsistencyLevel.ALL
        )
        return sorted((row.id,) for row in self.session.execute(statement))

    def readers(self, node: CassandraNode) -> list[psutil.Process]:
        """Of one node's log."""
        found = psutil.Process(self.stack.pid).children(recursive=True)
        return [p for p in found if is_reader(p) and str(node.cdc_raw) in p.cmdline()]

    def warns(self, *patterns: str) -> bool:
        """Whether `htapkit status` says so."""
        (source,) = json.loads(self._got("api/v1/status"))["sources"]
        said = " ".join(source["warnings"])
        return all(re.search(pattern, said) for pattern in patterns)

    def metrics(self) -> list[str]:
        """Each line of them."""
        return self._got("metrics").splitlines()

    def _got(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.stack.http_port}/{path}") as answer:
            return str(answer.read().decode())


def lie_as_the_node_says(ring: CassandraRing, session: Session) -> None:
    """The replicas of each range of a keyspace, as the node has them and as we do."""
    session.execute(f"CREATE KEYSPACE pairs WITH {_REPLICATED.format(2)}")
    told = re.findall(r"[ (]endpoints:\[([^]]*)\]", tool(ring.nodes[0], "describering", "pairs"))
    found = members(session, tokens=True)
    names = {member.host_id: member.address for member in found}
    (there,) = session.execute(
        "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = 'pairs'"
    )
    placed = place("ALL", there.replication, found)
    lie = {frozenset(names[node] for node in part.nodes) for (part,) in placed.replicas}
    assert lie == {frozenset(each.split(", ")) for each in told}
    session.execute("DROP KEYSPACE pairs")
