"""One replication slot at the source.

The slot is the memory of how far we are, and the server guards it; whatever does not fit to our
stored position is an error here, never a silent gap. User tables are never altered.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn
from psycopg.sql import SQL, Identifier

from htapkit.errors import PositionLost, SourceError, SourceRefused, SourceUnavailable
from htapkit_postgres.catalog import rows
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
from htapkit_postgres.types import SESSION_SETTINGS, quoted

NAME_MAX = 63
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


def reader_name(settings: Settings, reader: str) -> str:
    """The slot of one more reader of the same source."""
    return f"{settings.slot}_{reader}"


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
