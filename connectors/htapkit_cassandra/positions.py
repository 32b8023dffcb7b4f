"""A source's position: how far each node's log was read, and the newest of our marks. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from htapkit.model import Position
from htapkit_cassandra.mutations import LogPosition

LOG_START = LogPosition(0, 0)
"""Where nothing of a node's log was read yet."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What the marks that came say of the copy."""

    mark: int  # what was acknowledged before, at the consistency of the writers, was read
    through: int  # this one came through all logs: whatever was acknowledged before was read
    placed: Mapping[str, str] | None  # since then keyspaces lay as these digests say; None: unknown


@dataclass(frozen=True, slots=True)
class Reached:
    """As JSON: `{"nodes": {"HOST ID": [segment, offset]}, "mark": number}`, and what else is set.

    All that was acknowledged before the mark, at the consistency of the writers, was read.
    """

    nodes: Mapping[str, LogPosition] = field(default_factory=dict)
    mark: int = 0
    read: int = 0  # larger with each batch that brings something, also where no log gets further
    heard: int | None = None  # the mark that came through the logs of all nodes; None = `mark` did
    placed: Mapping[str, str] | None = None  # see Vouched

    @property
    def through(self) -> int:
        """The newest mark that came through the logs of all these nodes."""
        return self.mark if self.heard is None else self.heard

    def vouched(self, now: Vouched) -> Reached:
        """The same, with what marks that came since say of it."""
        mark, through = max(self.mark, now.mark), max(self.through, now.through)
        heard = None if through == mark else through
        return replace(self, mark=mark, heard=heard, placed=now.placed)

    def position(self) -> Position:
        """For the core, which cannot look into it."""
        nodes = {node: [at.segment, at.offset] for node, at in self.nodes.items()}
        told: dict[str, object] = {"nodes": nodes, "mark": self.mark}
        told |= {"read": self.read} if self.read else {}
        told |= {"through": self.heard} if self.heard is not None else {}
        told |= {"placed": dict(self.placed)} if self.placed is not None else {}
        return Position(json.dumps(told, sort_keys=True))


def reached(position: Position) -> Reached:
    """What a position says."""
    found = json.loads(position)
    nodes = {node: LogPosition(*place) for node, place in found["nodes"].items()}
    return Reached(
        nodes, found["mark"], found.get("read", 0), found.get("through"), found.get("placed")
    )


class LogOrder:
    """Compares positions."""

    def covers(self, have: Position, want: Position) -> bool:
        """Whether it has, for every node that `want` names, all up to there, mark and reads."""
        ours, theirs = reached(have), reached(want)
        nothing = LogPosition(-1, -1)
        nodes = all(ours.nodes.get(node, nothing) >= at for node, at in theirs.nodes.items())
        return nodes and ours.mark >= theirs.mark and ours.read >= theirs.read
