"""The preflight: what stands in the way of reading the nodes' changes, and what mends it.

It only reads. What was read is in `Facts`; each question is a pure function of it.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cassandra import InvalidRequest, Unauthorized
from cassandra.cluster import Session

from htapkit.errors import SourceError, SourceRefused
from htapkit.model import Finding, Severity
from htapkit.spi import Discovered
from htapkit_cassandra import jars
from htapkit_cassandra.catalog import describe, quoted_table
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.ring import Ring, members, placed, whole
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.truncations import Truncations

VERSIONS = ((4, 1), (5, 0))
SYNC_MS_MAX = 1000
FULL_PART_MAX = 0.5
JMX_SECONDS_MAX = 5.0
_UNITS = {"b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the node says of itself, and what is seen of its files here."""

    version: str
    settings: Mapping[str, str | None]  # of system_views.settings
    folder: str  # the configured cdc_raw, "" = none
    readable: bool
    used_bytes: int  # of files in it


def check(settings: Settings) -> list[Finding]:
    """All findings, those that are good, too. A source that does not answer is a finding."""
    found = list(program_findings(settings, jars.missing()))
    try:
        with session(settings) as opened, translated(settings):
            ring = placed(settings, members(opened))
            found += ring_findings(settings, ring)
            tables = describe(opened, settings, Truncations())
            denied = [str(d.schema.table) for d in tables if not _may_read(opened, d)]
    except SourceError as error:
        return [*found, Finding(Severity.ERROR, f"source {settings.source}", str(error))]
    for one in settings.each():
        found += _findings_of(one, several=bool(settings.nodes))
    return [*found, *table_findings(settings, tables, denied)]


def _findings_of(settings: Settings, *, several: bool) -> Iterator[Finding]:
    """Of one node, which is named where there are several."""
    try:
        with session(settings) as opened, translated(settings):
            facts = _facts(opened, settings)
            found = [*server_findings(facts), *folder_findings(settings, facts)]
            found += copy_findings(settings, facts.settings.get("data_file_directories") or "")
    except SourceError as error:
        found = [*folder_readable(settings), _error("answer", str(error))]
    for finding in found:
        subject = f"{settings.hosts[0]} {finding.subject}" if several else finding.subject
        yield replace(finding, subject=subject)


def refuse_errors(settings: Settings, found: Sequence[Finding]) -> None:
    """What is an error keeps a log from being followed. Raises SourceRefused for the first one."""
    for finding in found:
        if finding.severity is Severity.ERROR:
            raise SourceRefused(f"{settings.source}: {finding.subject}: {finding.message}")


def ring_findings(settings: Settings, ring: Ring) -> Iterator[Finding]:
    """Whether the nodes of the ring are the ones whose logs are read."""
    key = f"sources.{settings.source}.nodes"
    if not settings.nodes and ring.strangers:
        yield _error(
            "nodes",
            f"the ring has {len(ring.members)} nodes, and only one node's log is read; "
            f"list them all under {key}",
        )
        return
    try:
        whole(settings, ring)
    except SourceRefused as error:
        yield _error("nodes", str(error))
    else:
        yield _ok("nodes", ", ".join(member.address for member in ring.members))


def node_findings(opened: Session, settings: Settings) -> list[Finding]:
    """Of a node and its log, whatever its tables are."""
    facts = _facts(opened, settings)
    return [*server_findings(facts), *folder_findings(settings, facts)]


def folder_readable(settings: Settings) -> list[Finding]:
    """Errors only: of a node's files, as far as they can be judged without the node."""
    folder = settings.cdc_raw
    facts = Facts("", {"cdc_raw_directory": folder}, folder, _readable(folder), 0)
    found = folder_findings(settings, facts)
    return [finding for finding in found if finding.severity is Severity.ERROR]


def _readable(folder: str) -> bool:
    return bool(folder) and os.access(folder, os.R_OK | os.X_OK)


def _facts(opened: Session, settings: Settings) -> Facts:
    (local,) = opened.execute("SELECT release_version FROM system.local")
    rows = opened.execute("SELECT name, value FROM system_views.settings")
    readable = _readable(settings.cdc_raw)
    used = sum(map(_bytes, Path(settings.cdc_raw).iterdir())) if readable else 0
    return Facts(
        local.release_version,
        {row.name: row.value for row in rows},
        settings.cdc_raw,
        readable,
        used,
    )


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted meanwhile
        return 0


def _may_read(opened: Session, found: Discovered) -> bool:
    table = quoted_table(found.schema.table)
    try:
        # As JSON: the driver cannot decode every value that a table may hold.
        opened.execute(f"SELECT JSON * FROM {table} LIMIT 1")  # noqa: S608
    except (Unauthorized, InvalidRequest):
        return False
    return True


def _ok(subject: str, message: str) -> Finding:
    return Finding(Severity.OK, subject, message)


def _error(subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(Severity.ERROR, subject, message, remedy)


def _warning(subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(Severity.WARNING, subject, message, remedy)


def program_findings(settings: Settings, missing: str) -> Iterator[Finding]:
    """Java, and Cassandra's jars."""
    if missing and not (settings.cassandra_home and "mvn" in missing):
        yield _error("java", f"{missing}; it runs Cassandra's own reader of the log")
    else:
        yield _ok("java", settings.cassandra_home or f"jars of Cassandra {jars.version()}")


def server_findings(facts: Facts) -> Iterator[Finding]:
    """Version, CDC, how often the log is synced."""
    numbers = tuple(int(n) for n in re.findall(r"\d+", facts.version)[:2])
    if numbers not in VERSIONS:
        yield _error("version", f"Cassandra {facts.version} is not supported; 4.1 and 5.0 are")
    else:
        yield _ok("version", f"Cassandra {facts.version}")
    if facts.settings.get("cdc_enabled") != "true":
        yield _error(
            "cdc_enabled",
            "the node keeps no changes for others; set it in cassandra.yaml and restart the node",
            "cdc_enabled: true",
        )
    else:
        yield _ok("cdc_enabled", "true")
    yield from _sync_findings(facts.settings)


def _sync_findings(settings: Mapping[str, str | None]) -> Iterator[Finding]:
    sync = settings.get("commitlog_sync")
    period = settings.get("commitlog_sync_period_in_ms") or "0"
    if sync == "periodic" and float(period) > SYNC_MS_MAX:
        yield _warning(
            "commitlog_sync_period",
            f"{period} ms: changes are seen that late; 100 ms costs the node nothing visible",
            "commitlog_sync_period: 100ms",
        )
    else:
        yield _ok("commitlog_sync", f"{sync}, {period} ms" if sync == "periodic" else str(sync))


def folder_findings(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """The node's files with changes: the right ones, readable, not nearly full."""
    key = f"sources.{settings.source}.cdc_raw"
    theirs = facts.settings.get("cdc_raw_directory") or ""
    if not facts.folder:
        yield _error("cdc_raw", f"{key} is not set; the node's is {theirs}", f"cdc_raw: {theirs}")
        return
    if not facts.readable:
        yield _error("cdc_raw", f"{facts.folder} cannot be read; htapkit runs beside the node")
        return
    if theirs and Path(theirs) != Path(facts.folder):
        yield _warning("cdc_raw", f"{facts.folder} is read, but the node names {theirs}")
    limit = size(facts.settings.get("cdc_total_space") or "")
    message = f"{facts.used_bytes} of {limit} bytes (cdc_total_space) are used"
    if limit and facts.used_bytes > limit * FULL_PART_MAX:
        blocks = facts.settings.get("cdc_block_writes") == "true"
        then = "writes are refused" if blocks else "the oldest changes are deleted"
        yield _warning("cdc_raw", f"{message}; when it is full {then}; {_deletes(settings)}")
    else:
        yield _ok("cdc_raw", message)


def copy_findings(settings: Settings, data_file_directories: str) -> Iterator[Finding]:
    """What a copy needs of a node beside its log: JMX, and its data folders seen from here.

    `data_file_directories` is what the node says of them: `[/a, /b]`.
    """
    try:
        socket.create_connection((settings.jmx_host, settings.jmx_port), JMX_SECONDS_MAX).close()
    except OSError as error:
        where = f"{settings.jmx_host}:{settings.jmx_port}"
        yield _error("jmx", f"nothing answers at {where} ({error}); no table can be copied")
    else:
        yield _ok("jmx", f"{settings.jmx_host}:{settings.jmx_port}")
    theirs = [each.strip() for each in data_file_directories.strip("[]").split(",")]
    folders = settings.data_folders or tuple(each for each in theirs if each)
    unread = [folder for folder in folders if not _readable(folder)]
    if unread:
        yield _error(
            "data_folders",
            f"{', '.join(unread)} cannot be read; data_folders says where the node's data is here",
        )
    elif folders:
        yield _ok("data_folders", ", ".join(folders))


def _deletes(settings: Settings) -> str:
    if settings.delete_cdc_raw:
        return "what is confirmed is deleted"
    return f"sources.{settings.source}.delete_cdc_raw deletes what is confirmed"


def size(text: str) -> int:
    """`256MiB` in bytes; 0 where it is none."""
    found = re.fullmatch(r"(\d+)([kmg]?i?b)", text.lower())
    return int(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else 0


def table_findings(
    settings: Settings, tables: Sequence[Discovered], denied: Sequence[str]
) -> Iterator[Finding]:
    """Each table that the patterns ask for."""
    if not tables:
        yield _error(
            "tables",
            f"no table matches sources.{settings.source}.tables = {list(settings.tables)}",
        )
    for found in tables:
        subject = f"table {found.schema.table}"
        if str(found.schema.table) in denied:
            grant = f"GRANT SELECT ON {quoted_table(found.schema.table)} TO {settings.user}"
            yield _error(subject, "no right to read it", grant)
        if found.problem:
            message, _, remedy = found.problem.partition("; ")
            yield _error(subject, message, remedy)
        elif str(found.schema.table) not in denied:
            yield _ok(subject, f"key ({', '.join(found.schema.key)})")
