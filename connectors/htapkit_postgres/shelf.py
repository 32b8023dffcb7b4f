"""One reading of a source's catalog, as values. Pure; `catalog` fills it, `problems` judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Relation:
    """A row of pg_class."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    identity: str
    rows: int
    partition: bool
    file: int
    row_security: bool
    attributes: int


@dataclass(frozen=True, slots=True)
class Edge:
    """A row of pg_inherits."""

    child: int
    parent: int
    made: str
    born: bool
    column: int = 0  # of the parent, by whose ranges it is partitioned; 0: it is not
    bounds: str = ""  # as the server prints them


@dataclass(frozen=True, slots=True)
class Index:
    """A primary key or replica identity."""

    table: int
    primary: bool
    chosen: bool
    immediate: bool
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Publication:
    """One of our publications. `members` maps a table to what is left out of it ("" = nothing).

    `written` is the transaction that last wrote its options, `entries` the mark of each
    membership; `listed` are the tables that are in it by themselves, not with their schema.
    """

    oid: int
    name: str
    inserts: bool
    updates: bool | None  # and deletes; None: one of the two
    via_root: bool
    generated: str
    all_tables: bool
    owner: str
    owned: bool
    written: str
    members: Mapping[int, str]
    entries: Mapping[int, str] = field(default_factory=dict)
    listed: frozenset[int] = frozenset()

    def holds(self, oid: int) -> bool:
        """Whether changes of that table are published."""
        return self.all_tables or oid in self.members

    def membership(self, oid: int) -> str:
        """Another one whenever the table may not have been published meanwhile."""
        return f"{self.oid}/{self.written}/{self.entries.get(oid, 0)}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """One reading of the catalog."""

    version: int
    relations: Mapping[int, Relation]
    edges: Sequence[Edge]
    publications: Mapping[str, Publication]
    columns: Mapping[int, list[tuple[Any, ...]]] = field(default_factory=dict)
    marks: Mapping[int, str] = field(default_factory=dict)
    indexes: Mapping[int, list[Index]] = field(default_factory=dict)
    labels: Mapping[int, str] = field(default_factory=dict)
    encoding: str = "UTF8"

    def family(self, oid: int) -> dict[int, Edge | None]:
        """The table and all partitions below it, each with the edge to what is above it."""
        above = next((edge for edge in self.edges if edge.child == oid), None)
        found: dict[int, Edge | None] = {oid: above}
        if self.relations[oid].kind == "p":
            below = [oid]
            while below:
                parent = below.pop()
                for edge in self.edges:
                    if edge.parent == parent and edge.child not in found:
                        found[edge.child] = edge
                        below.append(edge.child)
        return found
