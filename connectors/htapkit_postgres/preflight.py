"""The preflight: what stands in the way of mirroring a database, and the SQL that mends it.

It only reads. Each question is a pure function of what was read, so that each can be tested
without the server that would make it come up. What the server would refuse later must be an error
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from htapkit.errors import SourceError
from htapkit.model import Finding, Severity
from htapkit.spi import Discovered, SourceOptions
from htapkit_postgres.catalog import describe, one_snapshot, read_publications, rows
from htapkit_postgres.connection import Connection, Settings, connect, literal, translated
from htapkit_postgres.fingerprint import parse
from htapkit_postgres.pgoutput import format_lsn
from htapkit_postgres.publications import fits, publication_options
from htapkit_postgres.shelf import Publication
from htapkit_postgres.slot import (
    Server,
    Slot,
    read_server,
    read_slot,
    reader_name,
)
from htapkit_postgres.types import quoted, quoted_table

VERSIONS = range(15, 19)
LONG_TRANSACTION_SECONDS = 60.0

# Before these, a table that joined a publication while it was written to could lose rows for good.
_LOSSLESS = {15: 13, 16: 9, 17: 5}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the server says of itself and of our role."""

    version: int  # as server_version_num
    wal_level: str
    slots_max: int
    senders_max: int
    keep_size: str
    encoding: str
    sender_timeout: str
    user: str
    superuser: bool
    replication: bool
    bypass_rls: bool
    rds_replication: bool
    create: bool
    slots_used: int
    senders_used: int
    standby_slots: str | None
    standby: bool


@dataclass(frozen=True, slots=True)
class Rights:
    """What our role may do with one table."""

    schema_usage: bool
    select: bool
    owner: bool
    row_security: bool  # policies apply to us
    owner_name: str


def check(settings: Settings, options: SourceOptions) -> list[Finding]:
    """All findings, those that are good, too. A source that does not answer is a finding."""
    try:
        with connect(settings) as connection, translated(settings, "check the source"):
            return list(_findings(connection, settings, options))
    except SourceError as error:
        words = str(error).removeprefix(f"{settings.source}: ")  # the subject says it
        return [Finding(Severity.ERROR, f"source {settings.source}", words)]


def _findings(
    connection: Connection, settings: Settings, options: SourceOptions
) -> Iterator[Finding]:
    with one_snapshot(connection):
        facts = _facts(connection)
        server = read_server(connection)
        names = [settings.slot, *(reader_name(settings, each) for each in options.readers)]
        slots = {name: read_slot(connection, name) for name in names}
        left = rows(connection, "left_slots", slot=settings.slot, known=names)
        publications = read_publications(connection, settings)
        tables = describe(connection, settings)
        rights = _rights(connection, tables)
        waiting = [
            (int(pid), float(seconds), str(gid))
            for pid, seconds, gid in rows(connection, "transactions")
        ]
    yield from server_findings(facts)
    yield from role_findings(facts)
    yield from capacity_findings(facts, [slot is not None for slot in slots.values()])
    for name, slot in slots.items():
        of_reader = replace(settings, slot=name)
        yield from slot_findings(of_reader, server, slot, options.slot_lag_bytes_max)
    yield from left_findings(left)
    yield from transaction_findings(waiting)
    yield from publication_findings(settings, facts, server.database, publications)
    yield from table_findings(settings, facts.user, tables, rights, publications)


def _facts(connection: Connection) -> Facts:
    row = rows(connection, "settings")[0]
    return Facts(*(connection.info.server_version, *row))


def _rights(connection: Connection, tables: Sequence[Discovered]) -> dict[str, Rights]:
    names = {}
    for found in tables:
        fingerprint = parse(found.fingerprint)
        assert fingerprint is not None, "describe makes fingerprints that can be read"
        for oid in fingerprint.parts:
            names[oid] = str(found.schema.table)
    result: dict[str, Rights] = {}
    for oid, *row in rows(connection, "privileges", tables=list(names)):
        own = Rights(*row)
        before = result.get(names[oid])
        if before is not None:  # a partition: all of them are read
            own = Rights(
                own.schema_usage and before.schema_usage,
                own.select and before.select,
                own.owner and before.owner,
                own.row_security or before.row_security,
                before.owner_name,
            )
        result[names[oid]] = own
    return result


def _ok(subject: str, message: str) -> Finding:
    return Finding(Severity.OK, subject, message)


def _error(subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(Severity.ERROR, subject, message, remedy)


def _warning(subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(Severity.WARNING, subject, message, remedy)


def server_findings(facts: Facts) -> Iterator[Finding]:
    """Version, wal_level, encoding, role of the server, limit of the log that slots keep."""
    major, minor = divmod(facts.version, 10000)
    if major not in VERSIONS:
        yield _error("version", f"PostgreSQL {major} is not supported; 15 to 18 are")
    elif minor < _LOSSLESS.get(major, 0):
        yield _warning(
            "version",
            f"PostgreSQL {major}.{minor} can lose rows of a table that joins a publication "
            f"while it is written to; {major}.{_LOSSLESS[major]} cannot: update the server",
        )
    else:
        yield _ok("version", f"PostgreSQL {major}.{minor}")
    if facts.standby:
        yield _error("server", "it is a standby; put the primary's address into sources.dsn")
    if facts.wal_level != "logical":
        yield _error(
            "wal_level",
            f"wal_level is {facts.wal_level}, logical is needed; restart the server after it",
            "ALTER SYSTEM SET wal_level = 'logical'",
        )
    else:
        yield _ok("wal_level", "logical")
    if facts.encoding == "SQL_ASCII":
        yield _warning(
            "server_encoding", "SQL_ASCII: text that is not valid UTF-8 sets its table aside"
        )
    if facts.keep_size == "-1":
        yield _warning(
            "max_slot_wal_keep_size",
            "no limit: while htapkit is away, the log that its slot keeps can fill the "
            "source's disk (with a limit, the slot is lost instead, and all is copied again)",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf()",
        )
    else:
        yield _ok("max_slot_wal_keep_size", facts.keep_size)


def role_findings(facts: Facts) -> Iterator[Finding]:
    """What the role needs beside its rights on tables."""
    role = quoted(facts.user)
    if not (facts.superuser or facts.replication or facts.rds_replication):
        yield _error(
            "role",
            f"{facts.user} may not replicate",
            f"ALTER ROLE {role} REPLICATION  -- on Amazon RDS: GRANT rds_replication TO {role}",
        )
    else:
        yield _ok("role", f"{facts.user} may replicate")


def capacity_findings(facts: Facts, has_slot: Sequence[bool]) -> Iterator[Finding]:
    """For each reader a slot for good, and one while a snapshot is taken; a sender for each."""
    needed = len(has_slot) + has_slot.count(False)
    free = facts.slots_max - facts.slots_used
    if free < needed:
        yield _error(
            "max_replication_slots",
            f"{free} of {facts.slots_max} are free, {needed} needed; restart the server after it",
            f"ALTER SYSTEM SET max_replication_slots = {facts.slots_max + needed}",
        )
    else:
        yield _ok("max_replication_slots", f"{free} of {facts.slots_max} are free")
    free = facts.senders_max - facts.senders_used
    if free < needed:
        yield _error(
            "max_wal_senders",
            f"{free} of {facts.senders_max} are free, {needed} needed; restart the server after it",
            f"ALTER SYSTEM SET max_wal_senders = {facts.senders_max + needed}",
        )
    else:
        yield _ok("max_wal_senders", f"{free} of {facts.senders_max} are free")


def slot_findings(
    settings: Settings, server: Server, slot: Slot | None, lag_bytes_max: int
) -> Iterator[Finding]:
    """The health of our slot, where it exists."""
    subject = f"slot {settings.slot}"
    drop = f"SELECT pg_drop_replication_slot({literal(settings.slot)})"
    if slot is None:
        yield _ok(subject, "will be created")
    elif slot.database != server.database or slot.plugin != "pgoutput":
        yield _error(
            subject,
            f"it belongs to database {slot.database} (plugin {slot.plugin}); set another slot name "
            f"in sources.{settings.source}.slot, or drop it if nobody needs it",
            drop,
        )
    elif slot.lost:
        reason = slot.reason or "over max_slot_wal_keep_size"
        yield _warning(
            subject, f"it is lost ({reason}); it is made anew and all tables are copied again"
        )
    else:
        lag = max(0, server.end - slot.restart)
        message = f"confirmed to {format_lsn(slot.confirmed)}, keeps {lag} bytes of log"
        if lag > lag_bytes_max:
            yield _warning(subject, f"{message}, more than limits.slot_lag ({lag_bytes_max})")
        elif slot.safe_bytes is not None and slot.safe_bytes < lag:
            yield _warning(subject, f"{message}, and is lost after {slot.safe_bytes} more")
        else:
            yield _ok(subject, message)


def left_findings(left: Sequence[tuple[str, int]]) -> Iterator[Finding]:
    """Slots (name, bytes of log) that may be of sinks that are no longer configured."""
    for name, kept in left:
        yield _warning(
            f"slot {name}",
            f"no sink of this source is behind it, nobody reads it, and the server keeps {kept} "
            "bytes of log for it; drop it if nobody needs it",
            f"SELECT pg_drop_replication_slot({literal(name)})",
        )


def transaction_findings(
    waiting: Sequence[tuple[int, float, str]],
) -> Iterator[Finding]:
    """A new slot, and each snapshot, waits for every transaction that runs."""
    for pid, seconds, gid in waiting:
        if seconds < LONG_TRANSACTION_SECONDS and not gid:
            continue
        what = f"prepared transaction '{gid}'" if gid else f"the transaction of process {pid}"
        end = f"ROLLBACK PREPARED {literal(gid)}" if gid else f"SELECT pg_terminate_backend({pid})"
        yield _warning(
            "transactions",
            f"{what} runs for {int(seconds)} s; a snapshot waits for its end",
            f"{end}  -- or COMMIT it",
        )


def publication_findings(
    settings: Settings, facts: Facts, database: str, publications: Mapping[str, Publication]
) -> Iterator[Finding]:
    """Our publications, where they exist, and whether they can be made where they do not."""
    main, appending = settings.publications
    both = settings.create_publication or settings.append_only  # an empty one would do, too
    for name in (main, appending) if both else (main,):
        if name not in publications:
            yield _missing_publication(settings, facts, database, name)
    for name, publication in publications.items():
        subject = f"publication {name}"
        if not fits(publication, facts.version // 10000, updates=name == main):
            yield _error(
                subject,
                "its options are not those that an exact copy needs",
                f"ALTER PUBLICATION {quoted(name)} SET ({_options(settings, facts, name)})",
            )
        elif settings.create_publication and not (publication.owned or facts.superuser):
            yield _error(
                subject,
                f"it belongs to {publication.owner}, so tables cannot be added to it",
                f"ALTER PUBLICATION {quoted(name)} OWNER TO {quoted(facts.user)}",
            )
        else:
            yield _ok(subject, f"{len(publication.members)} tables")


def _missing_publication(settings: Settings, facts: Facts, database: str, name: str) -> Finding:
    subject = f"publication {name}"
    if not settings.create_publication:
        return _error(
            subject,
            "it does not exist, and create_publication is false",
            f"CREATE PUBLICATION {quoted(name)} FOR TABLE … "
            f"WITH ({_options(settings, facts, name)})",
        )
    if not (facts.create or facts.superuser):
        return _error(
            subject,
            f"it does not exist, and {facts.user} may not create it",
            f"GRANT CREATE ON DATABASE {quoted(database)} TO {quoted(facts.user)}",
        )
    return _ok(subject, "will be created")


def _options(settings: Settings, facts: Facts, name: str) -> str:
    updates = name == settings.publications[0]
    return publication_options(facts.version // 10000, updates=updates).as_string(None)


def table_findings(
    settings: Settings,
    user: str,
    tables: Sequence[Discovered],
    rights: Mapping[str, Rights],
    publications: Mapping[str, Publication],
) -> Iterator[Finding]:
    """Each table that the patterns ask for."""
    if not tables:
        yield _error(
            "tables",
            f"no table matches sources.{settings.source}.tables = {list(settings.tables)}",
        )
    for found in tables:
        subject = f"table {found.schema.table}"
        refused = list(_table_errors(settings, user, found, rights, publications))
        yield from refused
        if found.problem:
            message, _, remedy = found.problem.partition("; ")
            yield _error(subject, message, remedy)
        elif not refused and found.schema.append_only:
            yield _warning(
                subject, "mirrored for inserts and truncates only: later updates would not be seen"
            )
        elif not refused and found.schema.whole_rows:
            yield _ok(subject, "no key: rows are told apart by all their columns")
        elif not refused:
            yield _ok(subject, f"key ({', '.join(found.schema.key)})")


def _table_errors(
    settings: Settings,
    user: str,
    found: Discovered,
    rights: Mapping[str, Rights],
    publications: Mapping[str, Publication],
) -> Iterator[Finding]:
    table = found.schema.table
    subject, name, role = f"table {table}", quoted_table(table), quoted(user)
    own = rights.get(str(table))
    fingerprint = parse(found.fingerprint)
    if own is None or fingerprint is None:
        return
    if not own.schema_usage:
        usage = f"GRANT USAGE ON SCHEMA {quoted(table.schema)} TO {role}"
        yield _error(subject, f"no right to use schema {table.schema}", usage)
    if not own.select:
        grant = f"GRANT SELECT ON {name} TO {role}"
        yield _error(subject, "no right to read it (or one of its partitions)", grant)
    if own.row_security:
        yield _error(
            subject,
            "row-level security applies to our role, and a filtered copy would pass for the whole",
            f"ALTER ROLE {role} BYPASSRLS",
        )
    published = fingerprint.publication != ""
    if not (published or own.owner or found.problem):
        if settings.create_publication:
            main, _ = settings.publications
            yield _error(
                subject,
                f"only its owner ({own.owner_name}) can add it to a publication",
                f"GRANT {quoted(own.owner_name)} TO {role}",
            )
        elif publications:
            main, _ = settings.publications
            add = f"ALTER PUBLICATION {quoted(main)} ADD TABLE {name}"
            yield _error(subject, f"it is not in the publication {main}", add)
