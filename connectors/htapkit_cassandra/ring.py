"""Which nodes a ring has, and which of them are configured.

With `nodes`, all of them have to be: what a node acknowledged alone is in no other one's log.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cassandra.cluster import Session

from htapkit.errors import SourceRefused
from htapkit_cassandra.replicas import Member
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.tokens import PARTITIONER, Cluster

_LOCAL = "SELECT host_id, rpc_address, data_center, rack{} FROM system.local"
_PEERS = "SELECT host_id, native_address, data_center, rack{} FROM system.peers_v2"
_SELF = "SELECT host_id, release_version, tokens, partitioner FROM system.local"
_OTHERS = "SELECT host_id, release_version, tokens FROM system.peers_v2"


@dataclass(frozen=True, slots=True)
class Ring:
    """All members; the settings of those that are configured, by host id."""

    members: tuple[Member, ...]
    nodes: Mapping[str, Settings]
    absent: tuple[str, ...] = ()  # configured addresses that are no member's

    @property
    def strangers(self) -> tuple[str, ...]:
        """Addresses of members that are not configured."""
        return tuple(m.address for m in self.members if m.host_id not in self.nodes)

    @property
    def identity(self) -> str:
        """The host ids of the nodes whose logs are read."""
        return ",".join(sorted(self.nodes))


def members(opened: Session, *, tokens: bool = False) -> tuple[Member, ...]:
    """Of the ring that a node is in; the node itself is the first.

    `tokens`: with theirs, where they are those of Murmur3Partitioner.
    """
    found: list[Member] = []
    local, peers = (", tokens, partitioner", ", tokens") if tokens else ("", "")
    rows = [*opened.execute(_LOCAL.format(local)), *opened.execute(_PEERS.format(peers))]
    tokens = tokens and rows[0].partitioner == PARTITIONER
    for number, row in enumerate(rows):
        address = str(row.native_address if number else row.rpc_address)
        # One that is joining has no id yet; its address tells it from the others.
        host_id = str(row.host_id or address)
        held = frozenset(int(each) for each in row.tokens or ()) if tokens else frozenset()
        found.append(Member(host_id, address, str(row.data_center), str(row.rack), held))
    return tuple(found)


def cluster(opened: Session) -> Cluster:
    """What decides how tables can be read over CQL."""
    (own,) = opened.execute(_SELF)
    rows = [own, *opened.execute(_OTHERS)]
    versions = [tuple(map(int, re.findall(r"\d+", row.release_version or "")[:2])) for row in rows]
    tokens = {str(row.host_id): tuple(map(int, row.tokens or ())) for row in rows}
    return Cluster(min(versions), own.partitioner, tokens)


def placed(settings: Settings, found: Sequence[Member]) -> Ring:
    """Which member each configured node is. Without `nodes` it is the one that was asked."""
    if not settings.nodes:
        return Ring(tuple(found), {found[0].host_id: settings})
    nodes, absent = {}, []
    for one in settings.each():
        (address,) = one.hosts
        is_one = _addresses(address)
        matching = [member.host_id for member in found if member.address in is_one]
        if matching:
            nodes[matching[0]] = one
        else:
            absent.append(address)
    return Ring(tuple(found), nodes, tuple(absent))


def _addresses(host: str) -> set[str]:
    """What a name stands for."""
    try:
        return {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
    except socket.gaierror:
        return {host}


def whole(settings: Settings, ring: Ring) -> Ring:
    """The same, if each node of it is configured and the other way round. Raises SourceRefused."""
    key = f"sources.{settings.source}.nodes"
    if ring.absent:
        raise SourceRefused(
            f"{key}: {', '.join(ring.absent)} is not in the ring; its nodes answer at "
            f"{', '.join(member.address for member in ring.members)}"
        )
    if ring.strangers:
        raise SourceRefused(
            f"{key}: the ring has nodes that are not configured ({', '.join(ring.strangers)}); "
            "what they acknowledge alone would be missed"
        )
    return ring
