"""Why a table cannot be mirrored exactly, each reason with the SQL that mends it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from htapkit.model import TableSchema
from htapkit_postgres.shelf import Edge, Index, Relation, Shelf
from htapkit_postgres.types import quoted, quoted_table


def leaves(shelf: Shelf, family: Mapping[int, Edge | None]) -> list[int]:
    """Those of a family that hold rows."""
    return [oid for oid in family if shelf.relations[oid].kind != "p"]


def key_of(relation: Relation, indexes: Sequence[Index]) -> tuple[tuple[str, ...], bool]:
    """(key columns, whether whole old rows are sent) as the replica identity gives them."""
    # A deferrable key may be violated for a moment inside a transaction: it identifies nothing.
    primary = next((i.columns for i in indexes if i.primary and i.immediate), ())
    chosen = next((i.columns for i in indexes if i.chosen), ())
    if relation.identity == "f":
        return primary, not primary
    return {"d": primary, "i": chosen}.get(relation.identity, ()), False


def problem(shelf: Shelf, root: Relation, schema: TableSchema) -> str:
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
        or _ancestor_problem(shelf, root)
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
    for oid in leaves(shelf, shelf.family(root.oid)):
        leaf = shelf.relations[oid]
        if leaf.identity == "f":
            continue
        key, _ = key_of(leaf, shelf.indexes.get(oid, []))
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
        if unidentified and publication.updates is not False and publication.holds(root.oid):
            leave = f"ALTER PUBLICATION {own} DROP TABLE {name}"
            identify = f"ALTER TABLE {name} REPLICA IDENTITY FULL"
            return (
                f"it is in the publication {own} without an identity, so its own UPDATE fails; "
                + (leave if root.oid in publication.listed else identify)
            )
    return ""


def _ancestor_problem(shelf: Shelf, root: Relation) -> str:
    """A partition's changes are sent as those of the table above it, where that is published."""
    parents = {edge.child: edge.parent for edge in shelf.edges}
    above = parents.get(root.oid) if root.partition else None
    while above is not None:
        parent = shelf.relations[above]
        full = f"{quoted(parent.schema)}.{quoted(parent.name)}"
        for publication in shelf.publications.values():
            if publication.holds(above):
                own = quoted(publication.name)
                mend = f"put {parent.schema}.{parent.name} into `tables` instead of it"
                if above in publication.listed:
                    mend = f"ALTER PUBLICATION {own} DROP TABLE {full}  -- or {mend}"
                return (
                    f"it is a partition of {full}, and the publication {own} sends its changes as "
                    f"changes of that table; {mend}"
                )
        above = parents.get(above)
    return ""
