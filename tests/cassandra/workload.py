"""Random statements of every kind over one table, many of them at the same times on purpose.

What ends soon has times of its own, odd ones. For once it has ended, a node that compacts makes a
tombstone of it, which wins over a write at the same time that would have won before.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from cassandra import ConsistencyLevel
from cassandra.concurrent import execute_concurrent
from cassandra.query import Statement

from tests.fix_cassandra import Keyspace

TABLE = (
    "CREATE TABLE {ks}.t (pk int, ck int, s text static, a text, b int, m map<text, int>,"
    " PRIMARY KEY (pk, ck)) WITH cdc = true AND CLUSTERING ORDER BY (ck DESC)"
)
# Kind: how often, and the statement. Bound by name, so that each takes what it needs.
STATEMENTS: Mapping[str, tuple[int, str]] = {
    "insert": (25, "INSERT INTO t (pk, ck, a, b) VALUES (:pk, :ck, :a, :b) USING TIMESTAMP :ts"),
    "insert_ttl": (
        8,
        "INSERT INTO t (pk, ck, a, b) VALUES (:pk, :ck, :a, :b) USING TIMESTAMP :ts AND TTL :ttl",
    ),
    "update": (12, "UPDATE t USING TIMESTAMP :ts SET a = :a WHERE pk = :pk AND ck = :ck"),
    "update_ttl": (
        8,
        "UPDATE t USING TTL :ttl AND TIMESTAMP :ts SET b = :b WHERE pk = :pk AND ck = :ck",
    ),
    "static": (6, "UPDATE t USING TIMESTAMP :ts SET s = :a WHERE pk = :pk"),
    "delete_cell": (6, "DELETE a FROM t USING TIMESTAMP :ts WHERE pk = :pk AND ck = :ck"),
    "delete_static": (2, "DELETE s FROM t USING TIMESTAMP :ts WHERE pk = :pk"),
    "delete_row": (4, "DELETE FROM t USING TIMESTAMP :ts WHERE pk = :pk AND ck = :ck"),
    "delete_range": (
        3,
        "DELETE FROM t USING TIMESTAMP :ts WHERE pk = :pk AND ck > :ck AND ck <= 9",
    ),
    "delete_below": (2, "DELETE FROM t USING TIMESTAMP :ts WHERE pk = :pk AND ck < :ck"),
    "delete_partition": (1, "DELETE FROM t USING TIMESTAMP :early WHERE pk = :pk"),
    "put": (8, "UPDATE t USING TIMESTAMP :ts SET m[:k] = :b WHERE pk = :pk AND ck = :ck"),
    "put_ttl": (
        4,
        "UPDATE t USING TTL :ttl AND TIMESTAMP :ts SET m[:k] = :b WHERE pk = :pk AND ck = :ck",
    ),
    "take": (4, "DELETE m[:k] FROM t USING TIMESTAMP :ts WHERE pk = :pk AND ck = :ck"),
    "replace": (4, "UPDATE t USING TIMESTAMP :ts SET m = :m WHERE pk = :pk AND ck = :ck"),
    "now": (3, "INSERT INTO t (pk, ck, a) VALUES (:far, :ck, :a)"),
}
SHORT_TTL = 1
FIRST_TIME = 1_000_000


class Workload:
    """Statements for one keyspace's table, made by a seed."""

    def __init__(self, keyspace: Keyspace, seed: int, *, make: bool = True) -> None:
        """Make the table, unless it is there already."""
        self._session = keyspace.session
        self._random = random.Random(seed)
        self.time = FIRST_TIME  # of what is written next: this one, or one of the 30 behind it
        if make:
            self._session.execute(TABLE.format(ks=keyspace.name))
        self._statements = {
            kind: self._session.prepare(text.replace(" t ", f" {keyspace.name}.t "))
            for kind, (_, text) in STATEMENTS.items()
        }

    def write(self, count: int, consistency: int = ConsistencyLevel.LOCAL_ONE) -> None:
        """Write so many, all acknowledged; an equal time means that the tie rule decides."""
        calls = self.calls(count)
        for statement in self._statements.values():
            statement.consistency_level = consistency
        results = execute_concurrent(self._session, calls, concurrency=16)
        assert len(results) == count
        assert all(result.success for result in results)

    def calls(self, count: int) -> list[tuple[Statement, object]]:
        """So many, each with its values."""
        chosen = self._random.choices(
            list(STATEMENTS), [weight for weight, _ in STATEMENTS.values()], k=count
        )
        return [(self._statements[kind], self._values(kind)) for kind in chosen]

    def _values(self, kind: str) -> dict[str, object]:
        roll = self._random
        pk, ttl = roll.randrange(40), roll.choice([SHORT_TTL, 90_000, 100_000])
        ends = "ttl" in kind and ttl == SHORT_TTL
        values: dict[str, object] = {
            "pk": pk,
            "far": 1000 + pk,
            "ck": roll.randrange(8),
            "a": f"v{roll.randrange(30)}",
            "b": roll.randrange(-40, 40),
            "k": f"k{roll.randrange(3)}",
            "m": {f"k{roll.randrange(3)}": roll.randrange(9)},
            "ts": 2 * (self.time + roll.randrange(30)) + ends,
            "early": 2 * (self.time + roll.randrange(12)),
            "ttl": ttl,
        }
        return {name: v for name, v in values.items() if f":{name}" in STATEMENTS[kind][1]}
