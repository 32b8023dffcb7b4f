"""A table that is to be loaded, as the node has it: what fits it, and which files it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cassandra.cluster import Session

from htapkit.errors import SourceError
from htapkit.model import TableId
from htapkit_cassandra import catalog, cql, marks, ring
from htapkit_cassandra.catalog import quoted, quoted_table
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.fitting import LoadRefused, Target
from htapkit_cassandra.settings import Settings

_MURMUR: Final = "org.apache.cassandra.dht.Murmur3Partitioner"
_FORMATS: Final = {
    "4.1": {"": "nb"},
    "5.0": {"": "nb", "CASSANDRA_4": "nb", "UPGRADING": "oa", "NONE": "oa"},
}
"""By release and `storage_compatibility_mode`: the version of files that a node writes itself.

Newer ones it ignores. Where the mode is not set, a 5.0 does as with CASSANDRA_4.
"""


class NoSuchTable(LoadRefused):
    """The table that is to be loaded is not there: none is ever made."""

    sqlstate = "42P01"


@dataclass(frozen=True, slots=True)
class Destination:
    """A table and its node."""

    table: TableId
    id: str
    targets: tuple[Target, ...]
    cdc: bool
    followed: bool  # by a copy, or will be
    types: tuple[str, ...]  # CREATE TYPE, of the keyspace
    create: str  # CREATE TABLE, with what a file of it depends on
    release: str
    partitioner: str
    mode: str  # storage_compatibility_mode, "" = it is not set
    cdc_on_repair: bool

    @property
    def format(self) -> str:
        """The version of the files that the node writes itself; "" = it is not known."""
        return _FORMATS.get(".".join(self.release.split(".")[:2]), {}).get(self.mode, "")

    @property
    def no_files(self) -> str:
        """Why files may not be loaded, "" = they may."""
        if not self.format:
            return (
                f"storage_compatibility_mode '{self.mode}' of Cassandra {self.release} is not "
                "known, and a node ignores files of another format than its own"
            )
        if self.partitioner != _MURMUR:
            return f"files are made for {_MURMUR} only"
        if self.cdc and not self.cdc_on_repair:
            return (
                "it has cdc, and cdc_on_repair_enabled is off: what is loaded as files would not "
                "come through the log, and whoever follows it would miss it"
            )
        return ""

    def insert(self, names: Sequence[str], written: str) -> str:
        """The statement for a row; `written`: its time, or the mark of a parameter."""
        columns = ", ".join(map(quoted, names))
        marks_ = ", ".join("?" * len(names))
        return (
            f"INSERT INTO {quoted_table(self.table)} ({columns}) VALUES ({marks_}) "  # noqa: S608
            f"USING TIMESTAMP {written}"
        )

    def select(self, names: Sequence[str]) -> str:
        """The statement that reads a row by its key."""
        columns = ", ".join(map(quoted, names))
        keys = " AND ".join(f"{quoted(t.name)} = ?" for t in self.targets if t.identifies)
        return f"SELECT {columns} FROM {quoted_table(self.table)} WHERE {keys}"  # noqa: S608


def find(settings: Settings, table: TableId) -> Destination:
    """The table as it is now. Raises NoSuchTable, LoadRefused, SourceError."""
    with session(settings) as opened, translated(settings):
        found = _find(opened, table)
    followed = found.cdc and settings.wants(table.schema, table.name)
    return replace(found, followed=followed)


def _find(opened: Session, table: TableId) -> Destination:
    keyspace, name = table.schema, table.name
    if keyspace == marks.KEYSPACE or catalog.OWN_KEYSPACES.fullmatch(keyspace):
        raise LoadRefused(f"{table}: keyspace {keyspace} is not for users' rows")
    rows = opened.execute(
        "SELECT id, cdc, default_time_to_live FROM system_schema.tables "
        "WHERE keyspace_name = %s AND table_name = %s",
        (keyspace, name),
    )
    row = rows.one()
    if row is None:
        raise NoSuchTable(f"{table} is not there; make the table first")
    types, create = _statements(opened, keyspace, name, row.default_time_to_live or 0)
    return Destination(
        table,
        str(row.id),
        _targets(opened, keyspace, name),
        bool(row.cdc),
        False,  # noqa: FBT003 - not known here
        types,
        create,
        **_of_node(opened),
    )


def _of_node(opened: Session) -> dict[str, Any]:
    """What the node that is asked does with files."""
    (local,) = opened.execute("SELECT release_version, partitioner FROM system.local")
    settings = {
        each.name: each.value
        for each in opened.execute("SELECT name, value FROM system_views.settings")
    }
    return {
        "release": local.release_version,
        "partitioner": local.partitioner,
        "mode": settings.get("storage_compatibility_mode") or "",
        "cdc_on_repair": settings.get("cdc_on_repair_enabled") != "false",
    }


def no_files(settings: Settings, to: Destination) -> str:
    """Why files may not be loaded, as each node of the ring has a word in it; "" = they may."""
    if to.no_files:
        return to.no_files
    for one in settings.each():
        node = ", ".join(one.hosts)
        try:
            with session(one) as opened, translated(one):
                there = replace(to, **_of_node(opened))
                strangers = ring.placed(settings, ring.members(opened)).strangers
        except SourceError as error:
            return f"not every node says whether it takes them: {error}"
        if there.no_files or there.format != to.format:
            return f"at node {node}: {there.no_files or 'files have another format there'}"
        if strangers:
            return (
                f"the ring has nodes that are not configured ({', '.join(strangers)}), and each "
                "has to say whether it takes them"
            )
    return ""


def _targets(opened: Session, keyspace: str, name: str) -> tuple[Target, ...]:
    types = catalog.types_of(opened).get(keyspace, {})
    columns = catalog.columns_of(opened)[keyspace, name]
    alone = [each.kind for each in columns].count("partition_key") == 1
    return tuple(
        Target(
            each.name,
            cql.parse(each.type, types),
            each.type,
            each.kind,
            alone and each.kind == "partition_key",
        )
        for each in columns
    )


def _statements(opened: Session, keyspace: str, name: str, ttl: int) -> tuple[tuple[str, ...], str]:
    types, create = [], ""
    for row in opened.execute(f"DESCRIBE KEYSPACE {quoted(keyspace)} WITH INTERNALS"):
        if row.type == "type":
            types.append(row.create_statement.strip().rstrip(";"))
        elif row.type == "table" and _plain(row.name) == name:
            create = for_files(row.create_statement, ttl)
    return tuple(types), create


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def for_files(statement: str, ttl: int) -> str:
    """CREATE TABLE with what a program depends on that only writes files: it keeps no log. Pure.

    `ttl` is the table's own, in seconds, 0 = none; in the statement a comment may look like it.
    """
    head, mark, tail = catalog.reduced(statement)[0].partition("\n) WITH ")
    options = [each for each in map(str.strip, tail.split(" AND ")) if not each.startswith("cdc")]
    return head + mark + " AND ".join([*options, f"default_time_to_live = {ttl}"])
