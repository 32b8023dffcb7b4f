"""How each table is copied: from the nodes' files, or over CQL. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from htapkit.model import TableId
from htapkit_cassandra import scanned, tokens
from htapkit_cassandra.counters import counts
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.tokens import Cluster


@dataclass(frozen=True, slots=True)
class Methods:
    """What is read over CQL, counters aside; all else is read from files."""

    over_cql: frozenset[TableId] = frozenset()
    unfit: Mapping[TableId, str] = field(default_factory=dict)  # why it is not, though it was to be
    neither: Mapping[TableId, str] = field(default_factory=dict)  # why there is no way


def unfit(layouts: Mapping[TableId, Layout], cluster: Cluster) -> dict[TableId, str]:
    """The tables that cannot be copied exactly over CQL, with the reason."""
    found = {}
    for table, layout in layouts.items():
        why = scanned.unfit(layout, cluster.version)
        if cluster.partitioner != tokens.PARTITIONER:
            why = f"the partitioner is {cluster.partitioner}, whose tokens are not known"
        if why and not counts(layout):
            found[table] = why
    return found


def chosen(
    snapshot: str, layouts: Mapping[TableId, Layout], unfit: Mapping[TableId, str], no_files: str
) -> Methods:
    """By the setting (auto, files, cql) and why files cannot be read, "" = they can."""
    tables = {table for table, layout in layouts.items() if not counts(layout)}
    if snapshot == "files" or (snapshot == "auto" and not no_files):
        return Methods()
    neither = {
        table: f"it cannot be copied over CQL: {why}; nor from files: {no_files}"
        for table, why in unfit.items()
        if no_files
    }
    return Methods(frozenset(tables - unfit.keys()), dict(unfit), neither)
