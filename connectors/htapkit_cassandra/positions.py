"""A source's position: how far each node's log was read, and the newest of our marks. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from htapkit.model import Position
from htapkit_cassandra.mutations import LogPosition


@dataclass(frozen=True, slots=True)
class Reached:
    """As JSON: `{"nodes": {"HOST ID": [segment, offset]}, "mark": number}`."""

    nodes: Mapping[str, LogPosition] = field(default_factory=dict)
    mark: int = 0

    def position(self) -> Position:
        """For the core, which cannot look into it."""
        nodes = {node: [at.segment, at.offset] for node, at in self.nodes.items()}
        return Position(json.dumps({"nodes": nodes, "mark": self.mark}, sort_keys=True))


def reached(position: Position) -> Reached:
    """What a position says."""
    found = json.loads(position)
    nodes = {node: LogPosition(*place) for node, place in found["nodes"].items()}
    return Reached(nodes, found["mark"])


class LogOrder:
    """Compares positions."""

    def covers(self, have: Position, want: Position) -> bool:
        """Whether it has, for every node that `want` names, all up to there, and its mark."""
        ours, theirs = reached(have), reached(want)
        nothing = LogPosition(-1, -1)
        nodes = all(ours.nodes.get(node, nothing) >= at for node, at in theirs.nodes.items())
        return nodes and ours.mark >= theirs.mark
