"""What attaching makes at the source, and nothing else: publications and one replication slot.

The slot is the memory of how far we are, and the server guards it; whatever does not fit to our
stored position is an error here, never a silent gap. User tables are never altered.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from htapkit.errors import PositionLost, SourceError, SourceRefused, SourceUnavailable
from htapkit.model import TableId, TableSchema
from htapkit_postgres.catalog import read_publications, read_relations, rows
from htapkit_postgres.connection import (
    Connection,
    Settings,
    conninfo,
    literal,
    source_error,
    translated,
)
from htapkit_postgres.head import behind
from htapkit_postgres.line import Identity
from htapkit_postgres.pgoutput import format_lsn, parse_lsn
from htapkit_postgres.shelf import Publication, Relation
from htapkit_postgres.types import SESSION_SETTINGS, quoted

SLOT_SECONDS_MAX = 60
BUSY_SECONDS_MAX = 2.0
BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Slot:
    """A row of pg_replication_slots."""

    database: str
    plugin: str
    active_pid: int | None
    restart: int
    confirmed: int
    wal_status: str
    safe_bytes: int | None
    reason: str  # of its invalidation; "" = valid

    @property
    def lost(self) -> bool:
        """Whether the server no longer has what it promised to keep."""
        return self.wal_status == "lost" or bool(self.reason)


@dataclass(frozen=True, slots=True)
class Server:
    """Which server, which database, and where its log ends."""

    system: str
    database: str
    standby: bool
    end: int
    timeline: int  # 0: a standby's is not its own


def read_server(connection: Connection) -> Server:
    """Which server this is."""
    row = rows(connection, "server")[0]
    end, timeline = parse_lsn(row[3]) if row[3] else 0, int(row[4], 16) if row[4] else 0
    return Server(row[0], row[1], row[2], end, timeline)


def read_slot(connection: Connection, name: str) -> Slot | None:
    """Our slot, if there is one."""
    found = rows(connection, "slot", slot=name)
    if not found:
        return None
    database, plugin, pid, restart, confirmed, status, safe, reason = found[0]
    return Slot(
        database or "",
        plugin or "",
        pid,
        parse_lsn(restart) if restart else 0,
        parse_lsn(confirmed) if confirmed else 0,
        status or "",
        safe,
        reason,
    )


def ensure_published(
    connection: Connection, settings: Settings, tables: Sequence[TableSchema]
) -> None:
    """Create our publications where they are missing and add tables to them.

    Both are made before the slot, though the second may stay empty: a server looks publications up
    as they were when a change was made, and ends a stream that names a younger one.
    """
    main, appending = settings.publications
    keyed = [schema.table for schema in tables if not schema.append_only]
    inserted = [schema.table for schema in tables if schema.append_only]
    with translated(settings, "publish tables"):
        shelf = read_relations(connection, settings)
        relations = {(r.schema, r.name): r for r in shelf.relations.values()}
        for name, members in ((main, keyed), (appending, inserted)):
            if name == appending and not members and not settings.create_publication:
                continue
            present = [
                relations[t.schema, t.name] for t in members if (t.schema, t.name) in relations
            ]
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


def ensure_slot(connection: Connection, settings: Settings, start: int | None) -> int:
    """The position to stream from, on a slot that has everything after it."""
    with translated(settings, "read the replication slot"):
        server = read_server(connection)
        slot = _free_slot(connection, settings.slot)
    if server.standby:
        raise SourceRefused(f"{settings.source} is a standby; put the primary into sources.dsn")
    if start is not None:
        check_slot(settings, server, slot, start)
        return start
    if slot is not None:
        _check_owner(settings, server, slot)
        if not slot.lost:
            # What is before now is in no copy of ours: skip it.
            return max(slot.confirmed, server.end)
        with translated(settings, "drop the lost replication slot"):
            connection.execute("SELECT pg_drop_replication_slot(%s)", [settings.slot])
    return _create_slot(connection, settings)


def _free_slot(connection: Connection, name: str) -> Slot | None:
    """Our slot; waits a little for a connection of ours that was closed just now."""
    end = time.monotonic() + BUSY_SECONDS_MAX
    while True:
        slot = read_slot(connection, name)
        if slot is None or slot.active_pid is None or time.monotonic() > end:
            return slot
        time.sleep(0.02)


def check_slot(settings: Settings, server: Server, slot: Slot | None, start: int) -> None:
    """Raise unless all changes after `start` can be had from this slot. Pure."""
    name = settings.source
    if slot is None:
        raise PositionLost(
            f"{name}: the replication slot {settings.slot} is gone (dropped, or this is another "
            "server or a restored one); the tables are copied again on a new slot"
        )
    _check_owner(settings, server, slot)
    if slot.lost:
        reason = slot.reason or "the log grew over max_slot_wal_keep_size"
        raise PositionLost(
            f"{name}: the replication slot {settings.slot} is lost ({reason}); the tables are "
            "copied again on a new slot"
        )
    if start > server.end:
        raise SourceRefused(behind(name, start, server.end))
    if slot.confirmed > start:
        raise PositionLost(
            f"{name}: somebody else took changes from the replication slot {settings.slot} "
            f"(confirmed {format_lsn(slot.confirmed)}, ours {format_lsn(start)}); give each copy "
            "a slot of its own (sources.slot); after a restore from a backup this is the log since "
            "then; the tables are copied again"
        )


def _check_owner(settings: Settings, server: Server, slot: Slot) -> None:
    if slot.database != server.database or slot.plugin != "pgoutput":
        raise SourceRefused(
            f"{settings.source}: the replication slot {settings.slot} belongs to database "
            f"'{slot.database}' (plugin {slot.plugin}), not to '{server.database}'; set another "
            f"sources.{settings.source}.slot"
        )
    if slot.active_pid is not None:
        raise SourceUnavailable(
            f"{settings.source}: the replication slot {settings.slot} is in use by process "
            f"{slot.active_pid}; stop the other htapkit, or "
            f"SELECT pg_terminate_backend({slot.active_pid})"
        )


def _create_slot(connection: Connection, settings: Settings) -> int:
    """A new slot, failing over to standbys where the server can do that; its first position."""
    version = connection.info.server_version // 10000
    # pg_create_logical_replication_slot(name, plugin, temporary, twophase, failover)
    with_failover = (
        "SELECT lsn::text FROM pg_create_logical_replication_slot(%s, %s, false, false, true)"
    )
    plain = "SELECT lsn::text FROM pg_create_logical_replication_slot(%s, %s)"
    names = [settings.slot, "pgoutput"]
    with translated(settings, "create the replication slot"):
        # It waits for every transaction that runs now.
        connection.execute(f"SET statement_timeout = '{SLOT_SECONDS_MAX}s'")
        try:
            if version >= 17 and settings.failover:
                try:
                    return _created(connection.execute(with_failover, names))
                except (psycopg.errors.FeatureNotSupported, psycopg.errors.InsufficientPrivilege):
                    pass  # a server that does not let us: the slot then stays on this one
            return _created(connection.execute(plain, names))
        except psycopg.errors.QueryCanceled:
            raise SourceUnavailable(
                f"{settings.source}: a replication slot waits for transactions to end; "
                + _long_transactions(connection)
            ) from None
        finally:
            connection.execute("RESET statement_timeout")


def _created(cursor: psycopg.Cursor[Any]) -> int:
    row = cursor.fetchone()
    assert row is not None, "a function gives one row"
    return parse_lsn(row[0])


def _long_transactions(connection: Connection) -> str:
    found = [f"{pid} ({int(seconds)} s)" for pid, seconds, _ in rows(connection, "transactions")]
    return "running: process " + ", ".join(found[:5]) if found else "none is running any more"


def start_replication(settings: Settings, followed: Identity, start: int) -> Connection:
    """A connection that streams from `start` in COPY_BOTH mode. Raises SourceError."""
    memory = {**SESSION_SETTINGS, "logical_decoding_work_mem": settings.decoding_memory}
    del memory["client_encoding"]
    parameters = conninfo(settings, more=memory, replication="database")
    with translated(settings, "connect for replication"):
        # Not by libpq's own blocking connect, which would stop all other threads meanwhile.
        connection: Connection = psycopg.connect(parameters, autocommit=True)
    try:
        _check_system(connection.pgconn, settings, followed)
        _start(connection.pgconn, settings, start)
    except BaseException:
        connection.close()
        raise
    return connection


def stream_error(settings: Settings, state: str, message: str) -> SourceError:
    """Our error for what ended a stream."""
    if state == "42704":  # undefined object: a publication
        return PositionLost(
            f"{settings.source}: a publication was dropped ({message}); it is made again, and the "
            "tables are copied again"
        )
    return source_error(settings, "stream changes", state, message)


def _check_system(connection: PGconn, settings: Settings, followed: Identity) -> None:
    """Another server may have taken over the address since it was asked who it is."""
    result = connection.exec_(b"IDENTIFY_SYSTEM")
    system, timeline = ((result.get_value(0, column) or b"").decode() for column in (0, 1))
    if (system, timeline) != (followed.system, str(followed.timeline)):
        raise SourceUnavailable(f"{settings.source}: the server changed while it was connected to")


def _start(connection: PGconn, settings: Settings, start: int) -> None:
    # One large answer makes libpq's buffer large for good: fewer and longer reads.
    connection.exec_(b"SELECT repeat(' ', %d)" % BUFFER_BYTES)
    names = ",".join(quoted(name) for name in _existing(connection, settings))
    command = (
        f"START_REPLICATION SLOT {quoted(settings.slot)} LOGICAL {format_lsn(start)} "
        f"(proto_version '1', publication_names {literal(names)}, messages 'true')"
    )
    result = connection.exec_(command.encode())
    if result.status != pq.ExecStatus.COPY_BOTH:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        raise source_error(settings, "start replication", state, result.get_error_message())
    connection.nonblocking = 1


def _existing(connection: PGconn, settings: Settings) -> list[str]:
    """Those publications that exist: a server may refuse the name of one that does not."""
    result = connection.exec_(b"SELECT pubname FROM pg_catalog.pg_publication")
    found = {(result.get_value(row, 0) or b"").decode() for row in range(result.ntuples)}
    return [name for name in settings.publications if name in found]


def drop_slot(connection: Connection, settings: Settings) -> None:
    """Drop the slot. One that is gone is fine."""
    slot = _free_slot(connection, settings.slot)
    if slot is not None:
        _check_owner(settings, read_server(connection), slot)
        connection.execute("SELECT pg_drop_replication_slot(%s)", [settings.slot])


def detach(connection: Connection, settings: Settings) -> None:
    """Drop the slot and, where they are ours, the publications. What is gone is fine."""
    with translated(settings, "detach"):
        drop_slot(connection, settings)
        if settings.create_publication:
            for name in settings.publications:
                drop = SQL("DROP PUBLICATION IF EXISTS {}").format(Identifier(name))
                connection.execute(drop)
