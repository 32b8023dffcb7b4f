"""Where the rows of keyspaces lie now, as a node says; worked out anew only where it changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cassandra.cluster import Session

from htapkit_cassandra.replicas import Member, Placed, place
from htapkit_cassandra.ring import members
from htapkit_cassandra.starts import lies

_KEYSPACES = "SELECT keyspace_name, replication FROM system_schema.keyspaces"


def digests(opened: Session) -> dict[str, str]:
    """Of each keyspace: where its rows lie."""
    found = members(opened, tokens=True)
    told = opened.execute(_KEYSPACES)
    return {row.keyspace_name: lies(found, dict(row.replication)) for row in told}


class Placements:
    """For one consistency of writers. Thread-safe: at worst something is worked out twice."""

    def __init__(self, consistency: str) -> None:
        """Nobody was asked yet."""
        self._consistency = consistency
        self._members: frozenset[Member] = frozenset()
        self._known: Mapping[tuple[tuple[str, str], ...], Placed] = {}

    def look(
        self, opened: Session, members: Sequence[Member], keyspaces: Collection[str]
    ) -> dict[str, Placed]:
        """Of these keyspaces those that are there; the members with their tokens."""
        told = {row.keyspace_name: row.replication for row in opened.execute(_KEYSPACES)}
        kinds = {
            name: tuple(sorted(dict(told[name]).items())) for name in keyspaces if name in told
        }
        known = self._known if self._members == frozenset(members) else {}
        made = {
            kind: known.get(kind) or place(self._consistency, dict(kind), members)
            for kind in set(kinds.values())
        }
        self._members, self._known = frozenset(members), made
        return {name: made[kind] for name, kind in kinds.items()}
