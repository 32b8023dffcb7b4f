"""Random histories over every kind of mutation that a table can have, written by a thread."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence, Set
from itertools import count

from cassandra import ConsistencyLevel, DriverException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.concurrent import execute_concurrent
from cassandra.query import SimpleStatement, Statement

from htapkit.errors import SourceError
from tests.cassandra.workload import FIRST_TIME, SHORT_TTL, Workload
from tests.fix_cassandra import SECONDS, Keyspace, wait_for

SHOWN: Mapping[str, str] = {
    "t": "pk, ck, s, a, b, m",
    "rich": "pk, ck, place, fixed, pair, held, l, tags, f, s",
    "traced": "part, id, word",
    "agreed": "id, word, version",
    "counted": "pk, ck, s, a, b",
}
"""Each table's columns, in the order in which both sides are asked for them."""

_TABLES = (
    "CREATE TYPE {ks}.place (street text, spots frozen<list<int>>)",
    "CREATE TABLE {ks}.rich (pk int, ck text, place place, fixed frozen<place>,"
    " pair tuple<int, text>, held frozen<tuple<int, text>>, l list<int>, tags set<text>,"
    " f frozen<map<text, int>>, s set<text> static, PRIMARY KEY (pk, ck)) WITH cdc = true",
    "CREATE TABLE {ks}.traced (part int, id int, word text, PRIMARY KEY (part, id))"
    " WITH cdc = true",
    "CREATE TABLE {ks}.agreed (id int PRIMARY KEY, word text, version int) WITH cdc = true",
    "CREATE TABLE {ks}.counted (pk int, ck text, s counter static, a counter, b counter,"
    " PRIMARY KEY (pk, ck)) WITH cdc = true",
)
# How often, and the statement. `{n}` is never the same twice, so what is lost is seen.
_WHERE = "WHERE pk = {pk} AND ck = 'c{ck}'"
_TRACE = "INSERT INTO {{ks}}.traced (part, id, word) VALUES ({{part}}, {{n}}, 'w{{n}}'){}"
_STATEMENTS: Sequence[tuple[int, str]] = (
    (20, _TRACE.format("")),
    (3, _TRACE.format(" USING TTL {ttl}")),
    (1, "DELETE FROM {ks}.traced WHERE part = {part} AND id >= {old} AND id < {old} + 5"),
    (2, "DELETE FROM {ks}.traced WHERE part = {part} AND id = {old}"),
    (
        4,
        "INSERT INTO {ks}.rich (pk, ck, place, fixed, pair, held, l, tags, f, s) VALUES"
        " ({pk}, 'c{ck}', {{street: 's{n}', spots: [{n}]}}, {{street: 'f{n}'}}, ({n}, 'x'),"
        " ({n}, null), [{n}], {{'t{ck}'}}, {{'k': {n}}}, {{'s{ck}'}})",
    ),
    (4, "UPDATE {ks}.rich SET place.street = 's{n}' " + _WHERE),
    (2, "UPDATE {ks}.rich USING TTL {ttl} SET place.spots = [{n}] " + _WHERE),
    (2, "DELETE place.street FROM {ks}.rich " + _WHERE),
    (3, "UPDATE {ks}.rich SET fixed = {{spots: [{n}]}}, held = ({n}, 'h') " + _WHERE),
    (3, "UPDATE {ks}.rich SET pair = (null, 'p{n}'), f = {{'a': {n}, 'b': 1}} " + _WHERE),
    (5, "UPDATE {ks}.rich SET l = l + [{n}] " + _WHERE),
    (3, "UPDATE {ks}.rich USING TTL {ttl} SET l = [{n}] + l " + _WHERE),
    (1, "UPDATE {ks}.rich SET l = l - [{old}] " + _WHERE),
    (1, "UPDATE {ks}.rich SET l = [] " + _WHERE),
    (4, "UPDATE {ks}.rich SET tags = tags + {{'t{tag}'}} " + _WHERE),
    (2, "UPDATE {ks}.rich SET tags = tags - {{'t{tag}'}} " + _WHERE),
    (2, "UPDATE {ks}.rich SET s = s + {{'s{tag}'}} WHERE pk = {pk}"),
    (1, "DELETE l, fixed FROM {ks}.rich " + _WHERE),
    (1, "DELETE FROM {ks}.rich " + _WHERE),
    (1, "DELETE FROM {ks}.rich WHERE pk = {pk} AND ck > 'c{ck}' AND ck <= 'c6'"),
    (1, "DELETE FROM {ks}.rich WHERE pk = {pk}"),
    (4, "INSERT INTO {ks}.agreed (id, word, version) VALUES ({ck}, 'w{n}', 0) IF NOT EXISTS"),
    (6, "UPDATE {ks}.agreed SET word = 'w{n}', version = {n} WHERE id = {ck} IF version < {n}"),
    (1, "DELETE FROM {ks}.agreed WHERE id = {ck} IF EXISTS"),
    (
        4,
        "BEGIN BATCH INSERT INTO {ks}.traced (part, id, word) VALUES (100, {n}, 'b');"
        " INSERT INTO {ks}.traced (part, id, word) VALUES (101, {n}, 'b');"
        " UPDATE {ks}.rich SET l = l + [{n}] WHERE pk = {pk} AND ck = 'b';"
        " APPLY BATCH",
    ),
    (10, "UPDATE {ks}.counted SET a = a + {n} " + _WHERE),
    (6, "UPDATE {ks}.counted SET a = a + 1, b = b - {tag} " + _WHERE),
    (3, "UPDATE {ks}.counted SET s = s + {tag} WHERE pk = {pk}"),
    (
        3,
        "BEGIN COUNTER BATCH UPDATE {ks}.counted SET a = a + 1 WHERE pk = {pk} AND ck = 'c1';"
        " UPDATE {ks}.counted SET b = b + 1 WHERE pk = {pk} AND ck = 'c2'; APPLY BATCH",
    ),
    (1, "DELETE FROM {ks}.counted " + _WHERE),
)
_PORTION = 8
_PAUSE_SECONDS = 0.2  # between portions: others use the machine, too


class Histories(threading.Thread):
    """Writes until `end`, whatever happens to the node; what failed may have been written."""

    def __init__(
        self, keyspace: Keyspace, seed: int, consistency: int = ConsistencyLevel.LOCAL_ONE
    ) -> None:
        """Make the tables. Nothing is written before `start`."""
        super().__init__(daemon=True)
        self._keyspace = keyspace
        self._consistency = consistency
        self._random = random.Random(seed)
        self._numbers = count(1)
        self._ended = threading.Event()
        self.written = 0
        self.failed = 0
        self.problem: BaseException | None = None
        for text in _TABLES:
            keyspace.session.execute(text.format(ks=keyspace.name))
        Workload(keyspace, seed)

    def run(self) -> None:
        """Write until `end`; a session of its own, and another one after an error."""
        try:
            while not self._ended.is_set():
                try:
                    with self._keyspace.node.session() as session:
                        self._write(session)
                except (DriverException, NoHostAvailable, SourceError):
                    self.failed += 1  # the node is gone
                    self._ended.wait(_PAUSE_SECONDS)
        except BaseException as error:
            self.problem = error
            raise

    def go_on(self, more_statements: int = 1) -> None:
        """Wait until so many more are written. Raises what it ended of."""
        wanted = self.written + more_statements

        def more() -> bool | None:
            if self.problem is not None:
                raise self.problem
            return self.written >= wanted or None

        wait_for(more)

    def end(self) -> None:
        """Write no more. Safe to call twice."""
        self._ended.set()
        if self.ident is not None:
            self.join(SECONDS)

    def _write(self, session: Session) -> None:
        name = self._keyspace.name
        workload = Workload(
            Keyspace(self._keyspace.node, session, name), self._random.randrange(2**32), make=False
        )
        weights = [weight for weight, _ in _STATEMENTS]
        while not self._ended.wait(_PAUSE_SECONDS):
            workload.time = FIRST_TIME + self.written
            chosen = self._random.choices(_STATEMENTS, weights, k=_PORTION)
            calls: list[tuple[Statement, object]] = [
                (SimpleStatement(text.format(ks=name, **self._values())), None)
                for _, text in chosen
            ]
            calls += workload.calls(_PORTION)
            for statement, _ in calls:
                statement.consistency_level = self._consistency
            execute_concurrent(session, calls, concurrency=8)
            self.written += len(calls)

    def _values(self) -> dict[str, int]:
        roll, number = self._random, next(self._numbers)
        return {
            "n": number,
            "old": max(0, number - roll.randrange(100)),
            "part": roll.randrange(4),
            "pk": roll.randrange(6),
            "ck": roll.randrange(8),
            "tag": roll.randrange(12),
            "ttl": roll.choice([SHORT_TTL, 90_000]),
        }


def selected(session: Session, keyspace: str, table: str) -> list[tuple[object, ...]]:
    """A table's rows at ALL, sorted, each value as htapkit shows it."""
    text = f"SELECT {SHOWN[table]} FROM {keyspace}.{table}"
    rows = session.execute(SimpleStatement(text, consistency_level=ConsistencyLevel.ALL))
    return sorted((tuple(_shown(value) for value in row) for row in rows), key=repr)


def _shown(value: object) -> object:
    """As json: what is empty, or has no field, is null; a field without a value is left out."""
    if isinstance(value, Mapping):
        return {str(k): _shown(v) for k, v in value.items()} or None
    if hasattr(value, "_asdict"):
        fields = {k: _shown(v) for k, v in value._asdict().items() if v is not None}
        return fields or None
    if isinstance(value, list | tuple | Set):
        return [_shown(v) for v in value] or None
    return value
