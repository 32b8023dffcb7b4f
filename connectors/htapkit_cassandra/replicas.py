"""Of whom a write is acknowledged: each row's replicas, and how many of them a consistency asks.

Pure. Replicas lie where Cassandra's SimpleStrategy and NetworkTopologyStrategy put them, and as
many acknowledge as its ConsistencyLevel.blockFor says. While a node joins or moves more have to,
which are none of these. Of any other strategy nothing is known: one replica is taken for enough.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_SIMPLE, _NETWORK = "SimpleStrategy", "NetworkTopologyStrategy"


@dataclass(frozen=True, slots=True)
class Member:
    """A node as another one (or itself) knows it."""

    host_id: str
    address: str  # where it answers over CQL
    datacenter: str
    rack: str = ""
    tokens: frozenset[int] = frozenset()  # where its ranges end, if they were asked for


@dataclass(frozen=True, slots=True)
class Part:
    """Replicas (host ids), of which at least so many acknowledge a write."""

    nodes: frozenset[str]
    acknowledge: int

    @property
    def spare(self) -> int:
        """How many of them need not be heard, since another one that was had each write, too."""
        return min(self.acknowledge, len(self.nodes)) - 1

    def bound(self, came: Mapping[str, int]) -> int:
        """The newest mark of which so many logs are behind that a write cannot be in those alone.

        `came` has the newest mark that came through each node's log.
        """
        return sorted(came.get(node, 0) for node in self.nodes)[self.spare]


Replicas = frozenset[Part]
"""Of the rows of a range: a write is acknowledged by each of these parts."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the rows of a keyspace lie, and who acknowledges what is written to them."""

    replicas: frozenset[Replicas]
    digest: str  # another one, if another node or another number may acknowledge a write

    @property
    def spare(self) -> int:
        """How many nodes may be missing, whichever they are: one less than would hide a write."""
        hidden = (sum(part.spare + 1 for part in each) for each in self.replicas)
        return min(hidden, default=1) - 1


def bound(replicas: Collection[Replicas], came: Mapping[str, int]) -> int:
    """The newest mark before which all that was acknowledged was read, of whichever range."""
    if not replicas:
        return min(came.values(), default=0)
    return min(max(part.bound(came) for part in each) for each in replicas)


def place(consistency: str, replication: Mapping[str, str], members: Sequence[Member]) -> Placed:
    """A keyspace's rows, by what `system_schema.keyspaces` and the nodes' tokens say."""
    replicas = frozenset(_replicas(consistency, replication, members))
    parts = sorted(
        sorted([part.acknowledge, *sorted(part.nodes)] for part in each) for each in replicas
    )
    told = repr((consistency, parts))
    return Placed(replicas, hashlib.sha256(told.encode()).hexdigest()[:16])


def _replicas(
    consistency: str, replication: Mapping[str, str], members: Sequence[Member]
) -> Iterator[Replicas]:
    strategy = replication["class"].removeprefix("org.apache.cassandra.locator.")
    # Of 3/1 one is transient: it has a log as the others have.
    factors = {
        name: int(number.partition("/")[0])
        for name, number in replication.items()
        if name != "class" and strategy in (_SIMPLE, _NETWORK)
    }
    if not factors:
        yield from (frozenset({Part(frozenset({m.host_id}), 1)}) for m in members)
        return
    owners = {token: member for member in members for token in member.tokens}
    ring = [owners[token] for token in sorted(owners)]
    for start in range(len(ring)):
        walk = (ring[(start + n) % len(ring)] for n in range(len(ring)))
        if strategy == _SIMPLE:
            found = _nearest(walk, sum(factors.values()))
        else:
            found = _by_datacenter(walk, factors, members)
        yield from _acknowledged(consistency, factors, found, apart=strategy == _NETWORK)


def _nearest(walk: Iterable[Member], count: int) -> list[Member]:
    found: dict[Member, None] = {}
    for member in walk:
        if len(found) == count:
            break
        found[member] = None
    return list(found)


def _by_datacenter(
    walk: Iterable[Member], factors: Mapping[str, int], members: Sequence[Member]
) -> list[Member]:
    """The first of each rack; of racks that are met again as many as there are racks too few."""
    nodes = [member for member in members if member.tokens]
    count = Counter(member.datacenter for member in nodes)
    racks = Counter(dc for dc, _ in {(m.datacenter, m.rack) for m in nodes})
    left = {dc: min(factor, count[dc]) for dc, factor in factors.items()}
    repeats = {dc: factor - racks[dc] for dc, factor in factors.items()}
    found: dict[Member, None] = {}
    met: set[tuple[str, str]] = set()
    for member in walk:
        dc, rack = member.datacenter, (member.datacenter, member.rack)
        if not any(left.values()):
            break
        if not left.get(dc) or member in found:
            continue
        if rack in met:
            if repeats[dc] <= 0:
                continue
            repeats[dc] -= 1
        met.add(rack)
        found[member] = None
        left[dc] -= 1
    return list(found)


def _acknowledged(
    consistency: str, factors: Mapping[str, int], found: Sequence[Member], *, apart: bool
) -> Iterator[Replicas]:
    """By whom, of the replicas of one range. `apart`: the factors are those of datacenters."""
    every, total = frozenset(member.host_id for member in found), sum(factors.values())
    if consistency in ("LOCAL_QUORUM", "EACH_QUORUM") and apart:
        quorums = [
            Part(frozenset(m.host_id for m in found if m.datacenter == dc), factors[dc] // 2 + 1)
            for dc in sorted({member.datacenter for member in found})
        ]
        # LOCAL_QUORUM: of whichever datacenter the coordinator is in.
        yield from (
            [frozenset(quorums)]
            if consistency == "EACH_QUORUM"
            else [frozenset({quorum}) for quorum in quorums]
        )
        return
    count = {"ONE": 1, "ALL": total}.get(consistency, total // 2 + 1)
    if every:
        yield frozenset({Part(every, count)})
