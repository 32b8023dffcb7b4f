"""Tables as the source's catalog has them: what can be mirrored, and what forbids it.

It reads, and never writes. All questions of one `describe` are asked under one snapshot, so that
what it says was true at one moment. The caller's transaction is used where there is one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

from psycopg.pq import TransactionStatus

from htapkit.model import TableId, TableSchema
from htapkit.spi import Discovered
from htapkit.sqlfiles import sql
from htapkit_postgres.connection import Connection, Settings
from htapkit_postgres.fingerprint import Fingerprint, Part, parse
from htapkit_postgres.problems import key_of, leaves, problem
from htapkit_postgres.shelf import Edge, Index, Publication, Relation, Shelf
from htapkit_postgres.types import FIRST_USER_OID, Attribute, column, quoted, quoted_table

# Encodings in which the order of bytes is the order of UTF-8's bytes.
_ORDERED_ENCODINGS = {"UTF8", "LATIN1", "SQL_ASCII"}
_CONSTANT = r"(MINVALUE|MAXVALUE|-?[0-9]+|'[^']*')"
_BOUNDS = re.compile(rf"FOR VALUES FROM \({_CONSTANT}\) TO \({_CONSTANT}\)")


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
    entries: dict[int, dict[int, str]] = defaultdict(dict)
    listed: dict[int, set[int]] = defaultdict(set)
    found = rows(connection, "members", publications=names)
    for publication, table, filtered, narrowed, mark, itself in found:
        members[publication][table] = "rows" if filtered else "columns" if narrowed else ""
        entries[publication][table] = mark
        if itself:
            listed[publication].add(table)
    found = rows(connection, "publications", publications=names)
    return {
        row[1]: Publication(*(*row, members[row[0]], entries[row[0]], frozenset(listed[row[0]])))
        for row in found
    }


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
        marks=dict(
            rows(connection, "marks", tables=members, publications=list(shelf.publications))
        ),
        indexes=indexes,
        labels=dict(rows(connection, "labels")),
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
    key, whole_rows = key_of(root, shelf.indexes.get(root.oid, []))
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
        parts=_parts(shelf, family, root.oid),
        publication=published[0].membership(root.oid) if published else "",
        filled=[row[2] for row in described if row[13]],
        generated={row[2]: row[15] for row in described if row[12]},
        labels=dict(shelf.labels) if own_types else {},
        attributes=root.attributes,
    )
    return Discovered(
        schema,
        fingerprint.text(),
        rows_estimate=sum(shelf.relations[oid].rows for oid in leaves(shelf, family)),
        problem=problem(shelf, root, schema),
    )


def _parts(shelf: Shelf, family: Mapping[int, Edge | None], root: int) -> dict[int, Part]:
    highest: dict[int, Edge] = {}  # the partition right below the root that each is, or is in
    parts = {}
    for oid, edge in family.items():
        made, born = (edge.made, edge.born) if edge else ("", False)
        part = Part(made, shelf.relations[oid].file or 0, shelf.marks.get(oid, ""), born)
        if edge is not None and oid != root:
            top = highest[oid] = highest.get(edge.parent, edge)
            found = _BOUNDS.fullmatch(top.bounds) if top.column else None
            if found:
                low, high = map(_value, found.groups())
                part = replace(part, column=top.column, low=low, high=high)
        parts[oid] = part
    return parts


def _value(text: str) -> str | None:
    """The value of a constant as the server prints it; None: without end."""
    return None if text in {"MINVALUE", "MAXVALUE"} else text.strip("'")
