"""The preflight: what stands in the way of reading a node's changes, and what mends it.

It only reads. What was read is in `Facts`; each question is a pure function of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cassandra import InvalidRequest, Unauthorized
from cassandra.cluster import Session

from htapkit.errors import SourceError
from htapkit.model import Finding, Severity
from htapkit.spi import Discovered
from htapkit_cassandra import jars
from htapkit_cassandra.catalog import describe, quoted_table
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.settings import Settings

VERSIONS = ((4, 1), (5, 0))
SYNC_MS_MAX = 1000
FULL_PART_MAX = 0.5
_UNITS = {"b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the node says of itself, and what is seen of its files here."""

    version: str
    nodes: int
    settings: Mapping[str, str | None]  # of system_views.settings
    folder: str  # the configured cdc_raw, "" = none
    readable: bool
    used_bytes: int  # of files in it


def check(settings: Settings) -> list[Finding]:
    """All findings, those that are good, too. A source that does not answer is a finding."""
    found = list(program_findings(settings, jars.missing()))
    try:
        with session(settings) as opened, translated(settings):
            found += node_findings(opened, settings)
            tables = describe(opened, settings)
            denied = [str(d.schema.table) for d in tables if not _may_read(opened, d)]
    except SourceError as error:
        return [*found, Finding(Severity.ERROR, f"source {settings.source}", str(error))]
    return [*found, *table_findings(settings, tables, denied)]


def node_findings(opened: Session, settings: Settings) -> list[Finding]:
    """Of the node and its log, whatever its tables are."""
    facts = _facts(opened, settings)
    return [*server_findings(facts), *folder_findings(settings, facts)]


def _facts(opened: Session, settings: Settings) -> Facts:
    (local,) = opened.execute("SELECT release_version FROM system.local")
    peers = list(opened.execute("SELECT peer FROM system.peers_v2"))
    rows = opened.execute("SELECT name, value FROM system_views.settings")
    folder = Path(settings.cdc_raw) if settings.cdc_raw else None
    readable = folder is not None and os.access(folder, os.R_OK | os.X_OK)
    used = sum(map(_bytes, folder.iterdir())) if folder and readable else 0
    return Facts(
        local.release_version,
        len(peers) + 1,
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
    if facts.nodes > 1:
        yield _error(
            "nodes",
            f"the ring has {facts.nodes} nodes, and only one node's log is read",
        )
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
