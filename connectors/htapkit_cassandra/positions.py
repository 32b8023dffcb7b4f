"""A source's position: how far each node's log was read, and the newest of our marks. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from htapkit.model import Position
from htapkit_cassandra.mutations import LogPosition

LOG_START = LogPosition(0, 0)
"""Where nothing of a node's log was read yet."""


@dataclass(frozen=True, slots=True)
class Reached:
    """As JSON: `{"nodes": {"HOST ID": [segment, offset]}, "mark": number}`, perhaps with `read`.

    The mark came through the logs of all these nodes.
    """

    nodes: Mapping[str, LogPosition] = field(default_factory=dict)
    mark: int = 0
    read: int = 0  # larger with each batch that brings something, also where no log gets further

    def position(self) -> Position:
        """For the core, which cannot look into it."""
        nodes = {node: [at.segment, at.offset] for node, at in self.nodes.items()}
        told: dict[str, object] = {"nodes": nodes, "mark": self.mark}
        told |= {"read": self.read} if self.read else {}
        return Position(json.dumps(told, sort_keys=True))


def reached(position: Position) -> Reached:
    """What a position says."""
    found = json.loads(position)
    nodes = {node: LogPosition(*place) for node, place in found["nodes"].items()}
    return Reached(nodes, found["mark"], found.get("read", 0))


class LogOrder:
    """Compares positions."""

    def covers(self, have: Position, want: Position) -> bool:
        """Whether it has, for every node that `want` names, all up to there, mark and reads."""
        ours, theirs = reached(have), reached(want)
        nothing = LogPosition(-1, -1)
        nodes = all(ours.nodes.get(node, nothing) >= at for node, at in theirs.nodes.items())
        return nodes and ours.mark >= theirs.mark and ours.read >= theirs.read
