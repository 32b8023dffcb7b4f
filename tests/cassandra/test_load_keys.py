"""Which keys a real node takes for the same one: what a load is refused for has to be just that."""

from __future__ import annotations

import pytest

from htapkit_cassandra import cql, encoding
from htapkit_cassandra.catalog import quoted
from htapkit_cassandra.writes import bound
from tests.fix_cassandra import Keyspace
from tests.unit.connectors.test_cassandra_spool import KEYS

pytestmark = pytest.mark.cassandra


def _bytes(type_: str, value: object) -> bytes | None:
    if type_ == "int":
        return encoding.integer("int", 1)
    made = encoding.FROM_TEXT.get(type_)
    parsed = cql.parse(type_, {})
    return made(str(value)) if made else encoding.from_json(parsed, str(value))


def test_a_node_takes_the_same_keys_for_one(keyspace: Keyspace) -> None:
    """Of two rows one is left, or both are."""
    session = keyspace.session
    for number, (partition, clustering, values, same) in enumerate(KEYS):
        table = f"{keyspace.name}.{quoted(f't{number}')}"
        columns = {"k": partition, **({"c": clustering} if clustering else {})}
        named = ", ".join(f"{name} {type_}" for name, type_ in columns.items())
        session.execute(f"CREATE TABLE {table} ({named}, PRIMARY KEY ({', '.join(columns)}))")
        marks = ", ".join("?" * len(columns))
        insert = session.prepare(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})")
        for value in values:
            given = [_bytes(type_, value) for type_ in columns.values()]
            session.execute(bound(insert, given, 1))
        found = len(list(session.execute(f"SELECT k FROM {table}")))
        assert found == (1 if same else 2), (partition, clustering, values)
