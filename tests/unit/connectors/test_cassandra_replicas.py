"""Of whom a write is acknowledged, and what that says of logs; against all that could have been."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from cassandra.metadata import NetworkTopologyStrategy

from htapkit_cassandra.replicas import Member, bound, place
from htapkit_cassandra.settings import WRITE_CONSISTENCIES

SIMPLE, NETWORK = "org.apache.cassandra.locator.SimpleStrategy", "NetworkTopologyStrategy"


def _ring(*placed: str, tokens: int = 1) -> list[Member]:
    """Nodes n0, n1, … in datacenters and racks such as `a/1`, in turn along the ring."""
    found = []
    for n, (datacenter, rack) in enumerate(where.split("/") for where in placed):
        held = frozenset(range(n, n + 97 * tokens, 97))
        found.append(Member(f"n{n}", f"10.0.0.{n}", datacenter, rack, held))
    return found


def _sets(consistency: str, replication: Mapping[str, str], ring: Sequence[Member]) -> set[str]:
    """As `2 of n0 n1 n2`; several parts are joined by ` and `."""
    placed = place(consistency, replication, ring)
    return {
        " and ".join(
            sorted(f"{part.acknowledge} of {' '.join(sorted(part.nodes))}" for part in each)
        )
        for each in placed.replicas
    }


def test_the_replicas_of_each_range() -> None:
    """The next nodes along the ring; one more than half of them are a quorum."""
    ring = _ring(*["dc/1"] * 4)
    simple = {"class": SIMPLE, "replication_factor": "3"}
    assert _sets("QUORUM", simple, ring) == {
        "2 of n0 n1 n2",
        "2 of n1 n2 n3",
        "2 of n0 n2 n3",
        "2 of n0 n1 n3",
    }
    assert _sets("ALL", {"class": SIMPLE, "replication_factor": "1"}, ring) == {
        f"1 of n{n}" for n in range(4)
    }
    # Of more replicas than nodes a quorum is one of the number that was asked for.
    assert _sets("QUORUM", {**simple, "replication_factor": "5"}, ring) == {"3 of n0 n1 n2 n3"}


def test_racks_come_before_neighbours() -> None:
    """Each rack once; those of a rack never share a row, while there are racks enough."""
    ring = _ring("dc/a", "dc/a", "dc/b", "dc/c")
    network = {"class": NETWORK, "dc": "3"}
    assert _sets("QUORUM", network, ring) == {"2 of n0 n2 n3", "2 of n1 n2 n3"}
    two = _ring("dc/a", "dc/a", "dc/a", "dc/b")
    assert _sets("QUORUM", network, two) == {
        "2 of n0 n1 n3",
        "2 of n1 n2 n3",
        "2 of n0 n2 n3",
    }


def test_quorums_of_several_datacenters() -> None:
    """Of all replicas, of one's own datacenter whichever it is, or of each."""
    ring = _ring("a/1", "b/1", "a/1", "b/1", "a/1", "c/1")
    network = {"class": NETWORK, "a": "3", "b": "2", "elsewhere": "1"}
    assert _sets("QUORUM", network, ring) == {"4 of n0 n1 n2 n3 n4"}
    assert _sets("LOCAL_QUORUM", network, ring) == {"2 of n0 n2 n4", "2 of n1 n3"}
    assert _sets("EACH_QUORUM", network, ring) == {"2 of n0 n2 n4 and 2 of n1 n3"}
    simple = {"class": SIMPLE, "replication_factor": "3"}
    assert _sets("LOCAL_QUORUM", simple, ring) == _sets("QUORUM", simple, ring)


def test_what_is_not_known_counts_as_one_replica() -> None:
    """A strategy of somebody's own; a transient replica is one."""
    ring = _ring("dc/1", "dc/1")
    odd = {"class": "com.example.SimpleStrategy", "replication_factor": "2"}
    assert _sets("QUORUM", odd, ring) == {"1 of n0", "1 of n1"}
    transient = {"class": SIMPLE, "replication_factor": "2/1"}
    assert _sets("ALL", transient, ring) == {"2 of n0 n1"}


def test_another_placement_has_another_digest() -> None:
    """Other nodes, another number, another consistency."""
    ring, simple = _ring(*["dc/1"] * 4), {"class": SIMPLE, "replication_factor": "3"}
    digests = {
        place("QUORUM", simple, ring).digest,
        place("ALL", simple, ring).digest,
        place("QUORUM", {**simple, "replication_factor": "2"}, ring).digest,
        place("QUORUM", simple, _ring(*["dc/1"] * 5)).digest,
    }
    assert len(digests) == 4
    assert place("QUORUM", simple, ring[::-1]).digest in digests


def test_how_many_may_be_missing() -> None:
    """Of EACH_QUORUM a write is hidden only where too many are missing of each datacenter."""
    ring = _ring(*["a/1", "b/1"] * 3)
    network = {"class": NETWORK, "a": "3", "b": "3"}
    spare = {level: place(level, network, ring).spare for level in WRITE_CONSISTENCIES}
    expected = {"ONE": 0, "LOCAL_QUORUM": 1, "QUORUM": 3, "EACH_QUORUM": 3, "ALL": 5}
    assert spare == expected


def test_rows_lie_where_the_driver_has_them() -> None:
    """Its maps are made otherwise. Of few racks it names nodes twice; those rings say nothing."""
    seed, alike = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32), 0
    print(f"CASSANDRA_SEED={seed}")
    roll = random.Random(seed)
    for _ in range(200):
        tokens, ring = roll.sample(range(10_000), 40), []
        for n in range(8):
            held = frozenset(tokens.pop() for _ in range(roll.choice([1, 3])))
            ring.append(Member(f"n{n}", "", roll.choice("ab"), roll.choice("xyz"), held))
        factors = {dc: str(roll.randrange(1, 6)) for dc in "ab"}
        owner = {token: member for member in ring for token in member.tokens}
        theirs = NetworkTopologyStrategy(factors).make_token_replica_map(owner, sorted(owner))
        if any(len(set(found)) < len(found) for found in theirs.values()):
            continue
        expected = {frozenset(member.host_id for member in found) for found in theirs.values()}
        ours = place("ALL", {"class": NETWORK, **factors}, ring).replicas
        assert {part.nodes for (part,) in ours} == expected - {frozenset()}, (factors, ring)
        alike += 1
    assert alike > 50


# -- the bound against all sets of replicas that could have acknowledged


def _may_acknowledge(
    consistency: str, factors: Mapping[str, int], lie: Mapping[str, Sequence[str]]
) -> Iterator[frozenset[str]]:
    """Each set of one row's replicas that is enough; `lie` has them by datacenter."""
    nodes, total = [node for each in lie.values() for node in each], sum(factors.values())
    quorum = {dc: factors[dc] // 2 + 1 for dc in lie}
    for size in range(1, len(nodes) + 1):
        for chosen in map(frozenset, combinations(nodes, size)):
            have = {dc: len(chosen & set(each)) for dc, each in lie.items()}
            enough = {
                "ONE": True,
                "QUORUM": size >= total // 2 + 1,
                "ALL": size >= total,
                "LOCAL_QUORUM": any(have[dc] >= quorum[dc] for dc in lie),
                "EACH_QUORUM": all(have[dc] >= quorum[dc] for dc in lie),
            }
            if enough[consistency]:
                yield chosen


def _next_along(
    ring: Sequence[Member], start: int, factors: Mapping[str, int]
) -> dict[str, list[str]]:
    """Each datacenter's nearest nodes, where it has a single rack."""
    owner = {token: member for member in ring for token in member.tokens}
    tokens = sorted(owner)
    lie: dict[str, list[str]] = {}
    for token in [t for t in tokens if t >= start] + [t for t in tokens if t < start]:
        member = owner[token]
        found = lie.setdefault(member.datacenter, [])
        if member.host_id not in found and len(found) < factors.get(member.datacenter, 0):
            found.append(member.host_id)
    return {dc: found for dc, found in lie.items() if found}


def test_the_bound_is_the_newest_that_no_acknowledgement_contradicts() -> None:
    """Whoever acknowledged: a write before the bound is in a log that was read behind it."""
    seed, differ = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32), 0
    print(f"CASSANDRA_SEED={seed}")
    roll = random.Random(seed)
    for _ in range(300):
        datacenters = roll.choice([("a",), ("a", "b")])
        nodes = [*datacenters, *roll.choices(datacenters, k=5 - len(datacenters))]
        roll.shuffle(nodes)
        ring = _ring(*(f"{dc}/1" for dc in nodes), tokens=roll.choice([1, 3]))
        factors = {dc: roll.randrange(1, nodes.count(dc) + 1) for dc in datacenters}
        replication = {"class": NETWORK, **{dc: str(n) for dc, n in factors.items()}}
        came = {member.host_id: roll.randrange(5) for member in ring}
        for consistency in WRITE_CONSISTENCIES:
            expected = []
            for start in sorted(token for member in ring for token in member.tokens):
                lie = _next_along(ring, start, factors)
                every = [came[node] for each in lie.values() for node in each]
                could = [
                    max(came[node] for node in chosen)
                    for chosen in _may_acknowledge(consistency, factors, lie)
                ]
                expected.append(min(could, default=max(every)))
            found = bound(place(consistency, replication, ring).replicas, came)
            assert found == min(expected), (consistency, replication, ring, came)
            differ += found != min(came.values())
    assert differ > 300
