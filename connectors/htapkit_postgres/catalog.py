"""Tables as the source's catalog has them: what can be mirrored, and what forbids it.

It reads, and never writes. All questions of one `describe` are asked under one snapshot, so that
what it says was true at one moment. The caller's transaction is used where there is one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from psycopg.pq import TransactionStatus

from htapkit.model import TableId, TableSchema
from htapkit.spi import Discovered
from htapkit.sqlfiles import sql
from htapkit_postgres.connection import Connection, Settings
from htapkit_postgres.fingerprint import Fingerprint, Part, parse
from htapkit_postgres.types import FIRST_USER_OID, Attribute, column, quoted, quoted_table

# Encodings in which the order of bytes is the order of UTF-8's bytes.
_ORDERED_ENCODINGS = {"UTF8", "LATIN1", "SQL_ASCII"}


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


@dataclass(frozen=True, slots=True)
class Edge:
    """A row of pg_inherits."""

    child: int
    parent: int
    made: str
    born: bool


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

    `written` is the transaction that last wrote its options, `entries` the number of each
    membership.
    """

    oid: int
    name: str
    inserts: bool
    updates: bool
    via_root: bool
    generated: str
    all_tables: bool
    owner: str
    owned: bool
    written: str
    members: Mapping[int, str]
    entries: Mapping[int, int] = field(default_factory=dict)

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


def describe(
    connection: Connection, settings: Settings, tables: Sequence[TableId] | None = None
) -> list[Discovered]:
    """These tables as they are now (those that exist); None: all that the patterns ask for."""
    with one_snapshot(connection):
        shelf = read_relations(connection, settings)
        if tables is None:
            roots = wanted(shelf, settings)
        else:
            names = {(table.schema, table.name) for table in tables}
            roots = [r for r in shelf.relations.values() if (r.schema, r.name) in names]
        shelf = _read_details(connection, shelf, roots)
    return [_discovered(shelf, settings, root) for root in roots if root.kind != "f"]


def without_rights(
    connection: Connection, settings: Settings, found: Sequence[Discovered]
) -> list[Discovered]:
    """The same tables, where our role may not read or publish one with that as its problem."""
    prints = {d.schema.table: parse(d.fingerprint) for d in found}
    oids = {p.oid: table for table, p in prints.items() if p is not None}
    held = rows(connection, "privileges", tables=list(oids))
    published = {table for table, p in prints.items() if p is not None and p.publication}
    role = quoted(connection.info.user)
    problems = {}
    for oid, usage, select, owner, secured, owner_name in held:
        table = oids[oid]
        name, schema = quoted_table(table), quoted(table.schema)
        if not usage:
            problems[table] = (
                f"{role} may not use its schema; GRANT USAGE ON SCHEMA {schema} TO {role}"
            )
        elif not select:
            problems[table] = f"{role} may not read it; GRANT SELECT ON {name} TO {role}"
        elif secured:
            problems[table] = (
                f"row-level security applies to {role}, and a filtered copy would pass for the "
                f"whole; ALTER ROLE {role} BYPASSRLS"
            )
        elif not owner and table not in published and settings.create_publication:
            problems[table] = (
                f"only its owner can add it to a publication; GRANT {quoted(owner_name)} TO {role}"
            )
    return [replace(d, problem=d.problem or problems.get(d.schema.table, "")) for d in found]


@contextmanager
def one_snapshot(connection: Connection) -> Iterator[None]:
    """One snapshot for all that is asked inside."""
    if connection.info.transaction_status != TransactionStatus.IDLE:
        yield
        return
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def rows(connection: Connection, name: str, **parameters: object) -> list[tuple[Any, ...]]:
    """The rows of a query in sql/source."""
    return connection.execute(sql(f"source/{name}"), parameters).fetchall()


def read_relations(connection: Connection, settings: Settings) -> Shelf:
    """All tables and our publications, without details."""
    relations = {row[0]: Relation(*row) for row in rows(connection, "tables")}
    edges = [Edge(*row) for row in rows(connection, "inherits")]
    return Shelf(
        version=connection.info.server_version // 10000,
        relations=relations,
        edges=edges,
        publications=read_publications(connection, settings),
        encoding=connection.info.parameter_status("server_encoding") or "UTF8",
    )


def read_publications(connection: Connection, settings: Settings) -> dict[str, Publication]:
    """Those of our publications that exist, by name."""
    names = list(settings.publications)
    members: dict[int, dict[int, str]] = defaultdict(dict)
    entries: dict[int, dict[int, int]] = defaultdict(dict)
    found = rows(connection, "members", publications=names)
    for publication, table, filtered, listed, number in found:
        members[publication][table] = "rows" if filtered else "columns" if listed else ""
        entries[publication][table] = number
    found = rows(connection, "publications", publications=names)
    return {row[1]: Publication(*(*row, members[row[0]], entries[row[0]])) for row in found}


def wanted(shelf: Shelf, settings: Settings) -> list[Relation]:
    """What the patterns ask for. A partition belongs to its root, unless it is named itself."""
    asked = {
        oid
        for oid, relation in shelf.relations.items()
        if relation.kind != "f" and settings.wants(relation.schema, relation.name)
    }
    parents = {edge.child: edge.parent for edge in shelf.edges}
    found = []
    for oid in asked:
        relation = shelf.relations[oid]
        if relation.partition:
            above, at = set(), parents.get(oid)
            while at is not None:
                above.add(at)
                at = parents.get(at)
            if above & asked or not settings.names(relation.schema, relation.name):
                continue
        found.append(relation)
    return sorted(found, key=lambda relation: (relation.schema, relation.name))


def _read_details(connection: Connection, shelf: Shelf, roots: Sequence[Relation]) -> Shelf:
    members = sorted({oid for root in roots for oid in shelf.family(root.oid)})
    columns = rows(connection, "columns", tables=[root.oid for root in roots])
    indexes: dict[int, list[Index]] = defaultdict(list)
    for row in rows(connection, "keys", tables=members):
        indexes[row[0]].append(Index(row[0], row[1], row[2], row[3], tuple(row[4])))
    return Shelf(
        version=shelf.version,
        relations=shelf.relations,
        edges=shelf.edges,
        publications=shelf.publications,
        columns={oid: list(group) for oid, group in groupby(columns, lambda row: row[0])},
        marks=dict(rows(connection, "marks", tables=members)),
        indexes=indexes,
        labels=dict(rows(connection, "enums")),
        encoding=shelf.encoding,
    )


def _attribute(row: tuple[Any, ...], encoding: str) -> Attribute:
    attribute = replace(Attribute(*row[1:12]), collation=row[16])
    if encoding in _ORDERED_ENCODINGS:
        return attribute
    return replace(attribute, collation_provider="i") if attribute.collation_provider else attribute


def _discovered(shelf: Shelf, settings: Settings, root: Relation) -> Discovered:
    table = TableId(settings.source, root.schema, root.name)
    described = shelf.columns.get(root.oid, [])
    family = shelf.family(root.oid)
    key, whole_rows = _key(root, shelf.indexes.get(root.oid, []))
    identified = bool(key) or whole_rows
    append_only = not identified and settings.wants_append_only(root.schema, root.name)
    published = [p for p in shelf.publications.values() if p.holds(root.oid)]
    schema = TableSchema(
        table,
        columns=tuple(column(_attribute(row, shelf.encoding)) for row in described),
        key=key,
        whole_rows=whole_rows,
        append_only=append_only,
    )
    own_types = any(row[14] >= FIRST_USER_OID for row in described)
    fingerprint = Fingerprint(
        oid=root.oid,
        parts={oid: _part(shelf, oid, edge) for oid, edge in family.items()},
        publication=published[0].membership(root.oid) if published else "",
        filled=[row[2] for row in described if row[13]],
        generated={row[2]: row[15] for row in described if row[12]},
        labels=dict(shelf.labels) if own_types else {},
    )
    return Discovered(
        schema,
        fingerprint.text(),
        rows_estimate=sum(shelf.relations[oid].rows for oid in _leaves(shelf, family)),
        problem=_problem(shelf, root, schema),
    )


def _part(shelf: Shelf, oid: int, edge: Edge | None) -> Part:
    made, born = (edge.made, edge.born) if edge else ("", False)
    return Part(made, shelf.relations[oid].file or 0, shelf.marks.get(oid, ""), born)


def _leaves(shelf: Shelf, family: Mapping[int, Edge | None]) -> list[int]:
    return [oid for oid in family if shelf.relations[oid].kind != "p"]


def _key(relation: Relation, indexes: Sequence[Index]) -> tuple[tuple[str, ...], bool]:
    """(key columns, whether whole old rows are sent) as the replica identity gives them."""
    # A deferrable key may be violated for a moment inside a transaction: it identifies nothing.
    primary = next((i.columns for i in indexes if i.primary and i.immediate), ())
    chosen = next((i.columns for i in indexes if i.chosen), ())
    if relation.identity == "f":
        return primary, not primary
    return {"d": primary, "i": chosen}.get(relation.identity, ()), False


def _problem(shelf: Shelf, root: Relation, schema: TableSchema) -> str:
    """Why the table cannot be followed, with the SQL that mends it; "" = it can."""
    name = quoted_table(schema.table)
    members = [shelf.relations[oid] for oid in shelf.family(root.oid)]
    for member in members:
        own = f"{quoted(member.schema)}.{quoted(member.name)}"
        if member.persistence == "u":
            return f"{own} is unlogged and writes no log; ALTER TABLE {own} SET LOGGED"
        if member.kind == "f":
            return f"its partition {own} is a foreign table, whose changes are not in this log"
    if root.kind == "r" and any(edge.parent == root.oid for edge in shelf.edges):
        return (
            "other tables inherit from it, and a SELECT of it reads their rows, too; leave it "
            "out of `tables` (its children can be in it), or ALTER TABLE … NO INHERIT its children"
        )
    if not schema.columns:
        return "it has no columns"
    return (
        _generated_problem(shelf, root)
        or _identity_problem(shelf, root, schema, name)
        or _publication_problem(shelf, root, schema, name)
    )


def _generated_problem(shelf: Shelf, root: Relation) -> str:
    """Only stored generated columns are ever sent, and only by version 18 and later."""
    kinds = {row[12]: row[1] for row in shelf.columns.get(root.oid, []) if row[12]}
    if "v" in kinds:
        return f"column {kinds['v']} is generated when read, and its values are never sent"
    if "s" in kinds and shelf.version < 18:
        return (
            f"column {kinds['s']} is generated, and PostgreSQL {shelf.version} does not send such "
            "columns (18 does); make it an ordinary column, or leave the table out of `tables`"
        )
    return ""


def _identity_problem(shelf: Shelf, root: Relation, schema: TableSchema, name: str) -> str:
    if schema.append_only:
        return ""
    if not schema.key and not schema.whole_rows:
        return (
            "its rows have no identity; ALTER TABLE "
            f"{name} ADD PRIMARY KEY (…), or ALTER TABLE {name} REPLICA IDENTITY FULL, or set "
            f"append_only: true for tables.{schema.table} if rows are only ever inserted"
        )
    for oid in _leaves(shelf, shelf.family(root.oid)):
        leaf = shelf.relations[oid]
        if leaf.identity == "f":
            continue
        key, _ = _key(leaf, shelf.indexes.get(oid, []))
        own = f"{quoted(leaf.schema)}.{quoted(leaf.name)}"
        if schema.whole_rows or not set(schema.key) <= set(key):
            return (
                f"its partition {own} does not send the old row's key; "
                f"ALTER TABLE {own} REPLICA IDENTITY FULL"
            )
    return ""


def _publication_problem(shelf: Shelf, root: Relation, schema: TableSchema, name: str) -> str:
    for publication in shelf.publications.values():
        left_out = publication.members.get(root.oid, "")
        own = quoted(publication.name)
        if left_out:
            return (
                f"the publication {own} leaves out {left_out} of it; "
                f"ALTER PUBLICATION {own} DROP TABLE {name}; "
                f"ALTER PUBLICATION {own} ADD TABLE {name}"
            )
        generated = any(row[12] == "s" for row in shelf.columns.get(root.oid, []))
        if generated and publication.holds(root.oid) and publication.generated != "s":
            return (
                f"the publication {own} leaves out generated columns; "
                f"ALTER PUBLICATION {own} SET (publish_generated_columns = stored)"
            )
        unidentified = not schema.key and not schema.whole_rows
        if unidentified and publication.updates and publication.holds(root.oid):
            return (
                f"it is in the publication {own} without an identity, so its own UPDATE fails; "
                f"ALTER PUBLICATION {own} DROP TABLE {name}"
            )
    return ""
