"""Whether a copy that was cut short can go on: by what was noted when it began."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from htapkit.model import TableId, TableSchema
from htapkit.spi import Discovered
from htapkit_cassandra import catalog, starts
from htapkit_cassandra.lines import Lines
from htapkit_cassandra.mutations import Part
from htapkit_cassandra.replicas import Member
from htapkit_cassandra.starts import Start, hindrance, lies

FILES = Start(starts.FILES, placed="here")
RINGED = Start(starts.FILES, placed="here", at=100, grace=60)
CQL = Start(starts.CQL, boots={"a": 1, "b": 5})
NODES = (
    Member("a", "10.0.0.1", "dc1", "r1", frozenset({1, 5})),
    Member("b", "10.0.0.2", "dc1", "r2", frozenset({3})),
)
TWICE = {"class": "SimpleStrategy", "replication_factor": "2"}


@pytest.mark.parametrize(
    ("before", "now", "why"),
    [
        (FILES, FILES, ""),
        (CQL, Start(starts.CQL, boots={"b": 5, "a": 1}), ""),
        (CQL, replace(CQL, placed="there"), "its rows lie on other nodes"),
        (FILES, replace(FILES, placed="there"), "its rows lie on other nodes"),
        (CQL, replace(CQL, boots={"a": 1, "b": 6}), "a node was started again"),
        (CQL, replace(CQL, boots={"a": 1}), "a node was started again"),
        (RINGED, replace(RINGED, at=160), ""),
        (RINGED, replace(RINGED, at=161), "it began more than gc_grace_seconds ago (60)"),
        (RINGED, replace(RINGED, at=161, grace=None), ""),
        (RINGED, replace(RINGED, at=100, grace=0), ""),
        (FILES, replace(RINGED, at=161, grace=100), "it began more than"),
        (FILES, CQL, "its copy began with files"),
        (CQL, FILES, "its copy began with cql"),
        (Start(starts.COUNTERS), Start(starts.COUNTERS), "counters are read in one go"),
        (None, FILES, "nothing was noted"),
    ],
)
def test_what_keeps_a_copy_from_going_on(before: Start | None, now: Start, why: str) -> None:
    found = hindrance(before, now)
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_what_was_noted_is_known_again() -> None:
    """In the fingerprint, which is compared as before."""
    schema = TableSchema(TableId("events", "demo", "t"), (), (), reconciled=True)
    told = {"id": "t", "truncated": {}, "columns": [], "types": {}, "dropped": {}, "horizon": 0}
    plain = Discovered(schema, json.dumps(told))
    noted = starts.noted(plain, CQL, 17)
    assert starts.start(noted.fingerprint) == CQL
    assert catalog.horizon(noted.fingerprint) == 17
    assert starts.start(plain.fingerprint) is None
    assert catalog.compare(schema, noted.fingerprint, plain) is None
    other = replace(plain, fingerprint=json.dumps({**told, "id": "another"}))
    assert catalog.compare(schema, noted.fingerprint, other) is not None


@pytest.mark.parametrize(
    ("nodes", "replication", "same"),
    [
        (NODES[::-1], dict(reversed(TWICE.items())), True),
        ((NODES[0], replace(NODES[1], address="10.0.0.9")), TWICE, True),
        ((NODES[0], replace(NODES[1], tokens=frozenset({4}))), TWICE, False),
        ((NODES[0], replace(NODES[1], rack="r1")), TWICE, False),
        ((NODES[0], replace(NODES[1], host_id="c")), TWICE, False),
        (NODES[:1], TWICE, False),
        (NODES, {**TWICE, "replication_factor": "1"}, False),
    ],
)
def test_where_rows_lie(
    nodes: tuple[Member, ...], replication: Mapping[str, str], same: bool
) -> None:
    assert (lies(nodes, replication) == lies(NODES, TWICE)) is same


def test_a_part_is_told_between_mutations() -> None:
    """With the largest and the smallest token that there can be."""
    lines = Lines()
    for token in (2**63 - 1, -(2**63) + 1):
        found = lines.feed(json.dumps({"kind": "part", "upto": token}).encode())
        assert found == Part(token)
