"""What of a table can serve a question: its key and its indexes, as the node names them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from htapkit.spi import Discovered
from htapkit_cassandra.layout import Layout

_ATTACHED: Final = ("StorageAttachedIndex", "sai")
_PLAIN: Final = frozenset(
    {"class_name", "target", "similarity_function", "maximum_node_connections"}
    | {"construction_beam_width", "optimize_for", "source_model"}
)
"""Options of an index that leave open what is equal."""


@dataclass(frozen=True, slots=True)
class Index:
    """A row of system_schema.indexes that is of a column as it is."""

    column: str
    attached: bool  # a storage-attached one (SAI)
    similarity: str = "cosine"  # by which one of vectors finds the nearest


@dataclass(frozen=True, slots=True)
class Keys:
    """A table: its types by column, its key, what its partitions share, its indexes."""

    layout: Layout
    partition: tuple[str, ...]
    clustering: tuple[tuple[str, bool], ...] = ()  # columns, and whether descending
    indexes: tuple[Index, ...] = ()

    def index(self, column: str) -> Index | None:
        """Of that column, a storage-attached one before others."""
        found = [each for each in self.indexes if each.column == column]
        return max(found, key=lambda each: each.attached, default=None)


def read_index(kind: str, options: Mapping[str, str]) -> Index | None:
    """What a row says; None: it is of a part of a collection, of words, or of an unknown kind."""
    target = options.get("target", "")
    if target.startswith('"') and target.endswith('"') and len(target) > 1:
        target = target[1:-1].replace('""', '"')
    elif "(" in target or not target:
        return None
    if kind != "CUSTOM":
        return Index(target, attached=False)
    attached = options.get("class_name", "").rpartition(".")[2] in _ATTACHED
    if not attached or not options.keys() <= _PLAIN:
        return None
    return Index(
        target, attached=True, similarity=options.get("similarity_function", "cosine").lower()
    )


def keys_of(found: Discovered, layout: Layout, indexes: tuple[Index, ...]) -> Keys:
    """Of a table as it was discovered."""
    columns = json.loads(found.fingerprint)["columns"]
    return Keys(
        layout,
        tuple(c["name"] for c in columns if c["kind"] == "partition_key"),
        tuple((c["name"], c["order"] == "desc") for c in columns if c["kind"] == "clustering"),
        indexes,
    )
