"""What attaching makes at the source beside the slot: publications, and the tables in them.

User tables are never altered.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from htapkit.errors import PositionLost, SourceRefused
from htapkit.model import TableId, TableSchema
from htapkit_postgres.catalog import read_publications, read_relations
from htapkit_postgres.connection import Connection, Settings, translated
from htapkit_postgres.shelf import Publication, Relation

PUBLISH_TRIES = 5


def ensure_published(
    connection: Connection, settings: Settings, tables: Sequence[TableSchema]
) -> None:
    """Create our publications where they are missing and add tables to them.

    Both are made before the slot, though the second may stay empty: a server looks publications up
    as they were when a change was made, and ends a stream that names a younger one.

    Where another reader of ours does the same just now, whoever is second looks again.
    """
    with translated(settings, "publish tables"):
        for _ in range(PUBLISH_TRIES - 1):
            try:
                _ensure_published(connection, settings, tables)
            except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                continue
            return
        _ensure_published(connection, settings, tables)


def _ensure_published(
    connection: Connection, settings: Settings, tables: Sequence[TableSchema]
) -> None:
    main, appending = settings.publications
    keyed = [schema.table for schema in tables if not schema.append_only]
    inserted = [schema.table for schema in tables if schema.append_only]
    shelf = read_relations(connection, settings)
    relations = {(r.schema, r.name): r for r in shelf.relations.values()}
    for name, members in ((main, keyed), (appending, inserted)):
        if name == appending and not members and not settings.create_publication:
            continue
        present = [relations[t.schema, t.name] for t in members if (t.schema, t.name) in relations]
        found = shelf.publications.get(name)
        needed = publish(found, name, present, shelf.version, updates=name == main)
        for statement in needed:
            if not settings.create_publication:
                raise SourceRefused(
                    f"{settings.source}: create_publication is false, and the publication "
                    f"lacks something; run: {statement.as_string(connection)}"
                )
            connection.execute(statement)


def publish(
    publication: Publication | None,
    name: str,
    tables: Sequence[Relation],
    version: int,
    *,
    updates: bool,
) -> list[Composed]:
    """The statements after which `name` publishes (at least) these tables as we need it. Pure."""
    options = publication_options(version, updates=updates)
    statements: list[Composed] = []
    if publication is None:
        wanted = SQL(" FOR TABLE {}").format(_names(tables)) if tables else SQL("")
        create = SQL("CREATE PUBLICATION {}{} WITH ({})")
        return [create.format(Identifier(name), wanted, options)]
    if not fits(publication, version, updates=updates):
        statements.append(SQL("ALTER PUBLICATION {} SET ({})").format(Identifier(name), options))
    missing = [relation for relation in tables if not publication.holds(relation.oid)]
    if missing:
        add = SQL("ALTER PUBLICATION {} ADD TABLE {}")
        statements.append(add.format(Identifier(name), _names(missing)))
    return statements


def publication_options(version: int, *, updates: bool) -> Composed:
    """What stands in a publication's WITH or SET, so that it fits."""
    operations = "insert, update, delete, truncate" if updates else "insert, truncate"
    options = SQL("publish = {}, publish_via_partition_root = true").format(Literal(operations))
    return options + SQL(", publish_generated_columns = stored") if version >= 18 else options


def fits(publication: Publication, version: int, *, updates: bool) -> bool:
    """Whether an existing publication sends what we need, and nothing that harms the source."""
    generated = version < 18 or publication.generated == "s"
    return (
        publication.inserts
        and publication.via_root
        and generated
        and publication.updates == updates
    )


def _names(tables: Sequence[Relation]) -> Composable:
    # ONLY: tables that inherit from one of these are tables of their own.
    return SQL(", ").join(SQL("ONLY {}").format(Identifier(t.schema, t.name)) for t in tables)


def unpublish(connection: Connection, settings: Settings, tables: Sequence[TableId]) -> None:
    """Take tables out of our publications. A table that is in none of them is fine."""
    if not settings.create_publication:
        return
    with translated(settings, "take tables out of the publication"):
        shelf = read_relations(connection, settings)
        relations = {(r.schema, r.name): r for r in shelf.relations.values()}
        for table in tables:
            relation = relations.get((table.schema, table.name))
            for publication in shelf.publications.values():
                if relation is not None and relation.oid in publication.listed:
                    drop = SQL("ALTER PUBLICATION {} DROP TABLE ONLY {}")
                    name = Identifier(publication.name)
                    connection.execute(
                        drop.format(name, Identifier(relation.schema, relation.name))
                    )


def check_publications(
    connection: Connection, settings: Settings, tables: Sequence[TableSchema]
) -> None:
    """Before following on: a publication that is gone means that changes were skipped."""
    with translated(settings, "read the publications"):
        found = read_publications(connection, settings)
    main, appending = settings.publications
    needed = {appending if schema.append_only else main for schema in tables}
    for name in sorted(needed - found.keys()):
        raise PositionLost(
            f"{settings.source}: the publication {name} was dropped, and what changed meanwhile is "
            "not known; it is made again, and the tables are copied again"
        )
