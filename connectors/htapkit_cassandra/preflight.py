"""The preflight: what stands in the way of reading the nodes' changes, and what mends it.

It only reads. What was read is in `Facts`; each question is a pure function of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cassandra import InvalidRequest, Unauthorized
from cassandra.cluster import Session

from htapkit.errors import SourceError, SourceRefused
from htapkit.model import Finding, Severity
from htapkit.spi import Discovered
from htapkit_cassandra.catalog import describe, layout, quoted_table
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.machine import Machine, Seen
from htapkit_cassandra.machines import machine
from htapkit_cassandra.methods import Methods, chosen, unfit
from htapkit_cassandra.placements import Placements
from htapkit_cassandra.ring import Ring, cluster, members, placed, whole
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.truncations import Truncations

VERSIONS = ((4, 1), (5, 0))
TRIED = (6, 0)  # before its release
SYNC_MS_MAX = 1000
FULL_PART_MAX = 0.5
_UNITS = {"b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the node says of itself, and what is seen of its files on its machine."""

    version: str
    settings: Mapping[str, str | None]  # of system_views.settings
    folder: str  # the configured cdc_raw, "" = none
    readable: bool
    used_bytes: int = 0  # of files in it


def check(settings: Settings) -> list[Finding]:
    """All findings, those that are good, too. A source that does not answer is a finding."""
    found = [] if all(one.agent for one in settings.each()) else _program_here(settings)
    try:
        with session(settings) as opened, translated(settings):
            ring = placed(settings, members(opened))
            found += ring_findings(settings, ring)
            tables, nodes = describe(opened, settings, Truncations()), cluster(opened)
            denied = [str(d.schema.table) for d in tables if not _may_read(opened, d)]
            found += _write_findings(settings, opened, tables)
    except SourceError as error:
        return [*found, Finding(Severity.ERROR, f"source {settings.source}", str(error))]
    for one in settings.each():
        found += _findings_of(one, several=bool(settings.nodes))
    no_files = next(
        (f.message for f in found if _of_files(f) and f.severity is not Severity.OK), ""
    )
    layouts = {each.schema.table: layout(each) for each in tables}
    methods = chosen(settings.snapshot, layouts, unfit(layouts, nodes), no_files)
    return [*found, *table_findings(settings, tables, denied, methods)]


def _of_files(finding: Finding) -> bool:
    return finding.subject.split()[-1] in {"jmx", "data_folders"}


def files_problem(settings: Settings, beside: Machine) -> str:
    """Why a node's files cannot be read now, "" = they can."""
    try:
        with session(settings) as opened, translated(settings):
            said = _said(opened)
        seen = beside.look(_data_folders(said))
    except SourceError as error:
        return str(error)
    found = copy_findings(seen, settings.snapshot)
    return next((f.message for f in found if f.severity is not Severity.OK), "")


def _data_folders(said: Facts) -> list[str]:
    return listed(said.settings.get("data_file_directories") or "")


def _program_here(settings: Settings) -> list[Finding]:
    """Once for all nodes whose files are on this machine."""
    (one, *_) = (each for each in settings.each() if not each.agent)
    return list(program_findings(machine(one).look()))


def _findings_of(settings: Settings, *, several: bool) -> Iterator[Finding]:
    """Of one node and its machine; the node is named where there are several."""
    found: list[Finding] = []
    said = None
    try:
        with session(settings) as opened, translated(settings):
            said = _said(opened)
        found += server_findings(said)
    except SourceError as error:
        found.append(_error("answer", str(error)))
    found += _machine_findings(settings, said)
    for finding in found:
        subject = f"{settings.hosts[0]} {finding.subject}" if several else finding.subject
        yield replace(finding, subject=subject)


def _machine_findings(settings: Settings, said: Facts | None) -> list[Finding]:
    """Without the node's word errors only."""
    try:
        seen = machine(settings).look(_data_folders(said) if said else None)
    except SourceError as error:
        return [_error("agent", str(error))]
    if said is None:
        return _seen_errors(settings, seen)
    found = list(_agent_findings(settings, seen)) if seen.agent else []
    return [
        *found,
        *folder_findings(settings, _with(said, seen)),
        *copy_findings(seen, settings.snapshot),
    ]


def _agent_findings(settings: Settings, seen: Seen) -> Iterator[Finding]:
    encrypted = "TLS" if settings.agent_ca else "plain text"
    yield _ok("agent", f"htapkit {seen.agent} at {settings.agent}, {encrypted}")
    yield from program_findings(seen)
    if settings.delete_cdc_raw and not seen.deletes:
        yield _warning(
            "delete_cdc_raw",
            f"the agent at {settings.agent} deletes nothing: its own file does not allow it",
            "delete_cdc_raw: true",
        )


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


def _write_findings(
    settings: Settings, opened: Session, tables: Sequence[Discovered]
) -> Iterator[Finding]:
    """How many nodes may be missing, by what is said of who writes."""
    level = settings.write_consistency
    if level == "ONE" or not settings.nodes:
        return
    keyspaces = {found.schema.table.schema for found in tables}
    found = Placements(level).look(opened, members(opened, tokens=True), keyspaces)
    for name, spare in sorted((name, each.spare) for name, each in found.items()):
        if spare:
            nodes = f"{spare} node" + ("s" if spare > 1 else "")
            yield _ok("write_consistency", f"{level}: {name} is fresh while {nodes} may be missing")
        else:
            yield _warning(
                "write_consistency",
                f"at {level} what is written to keyspace {name} may be at one node alone, so "
                "nothing is called fresh while a node is down",
            )


def node_findings(opened: Session, settings: Settings, seen: Seen) -> list[Finding]:
    """Of a node and its log, whatever its tables are."""
    facts = _with(_said(opened), seen)
    return [*server_findings(facts), *folder_findings(settings, facts)]


def machine_errors(settings: Settings, beside: Machine) -> list[Finding]:
    """Errors only: of a node's files, as far as they can be judged without the node.

    Raises SourceUnavailable: its agent does not answer.
    """
    try:
        seen = beside.look()
    except SourceRefused as error:
        return [_error("agent", str(error))]
    return _seen_errors(settings, seen)


def _seen_errors(settings: Settings, seen: Seen) -> list[Finding]:
    facts = _with(Facts("", {"cdc_raw_directory": seen.cdc_raw}, "", readable=False), seen)
    found = [*program_findings(seen), *folder_findings(settings, facts)]
    return [finding for finding in found if finding.severity is Severity.ERROR]


def _said(opened: Session) -> Facts:
    """The node's own word."""
    (local,) = opened.execute("SELECT release_version FROM system.local")
    rows = opened.execute("SELECT name, value FROM system_views.settings")
    said = {row.name: row.value for row in rows}
    return Facts(local.release_version, said, "", readable=False)


def _with(said: Facts, seen: Seen) -> Facts:
    return replace(said, folder=seen.cdc_raw, readable=seen.readable, used_bytes=seen.used_bytes)


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


def program_findings(seen: Seen) -> Iterator[Finding]:
    """Java, and Cassandra's jars."""
    if seen.java:
        yield _error("java", f"{seen.java}; it runs Cassandra's own reader of the log")
    else:
        yield _ok("java", seen.jars)


def server_findings(facts: Facts) -> Iterator[Finding]:
    """Version, CDC, how often the log is synced."""
    numbers = tuple(int(n) for n in re.findall(r"\d+", facts.version)[:2])
    if numbers == TRIED:
        yield _warning(
            "version",
            f"Cassandra {facts.version}: of 6.0 only the preview 6.0-alpha2 was tried",
        )
    elif numbers not in VERSIONS:
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
        whose = "the agent's user may not" if settings.agent else "htapkit runs beside the node"
        yield _error("cdc_raw", f"{facts.folder} cannot be read; {whose}")
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


def copy_findings(seen: Seen, snapshot: str = "files") -> Iterator[Finding]:
    """What a copy of files needs of a node: JMX, and its data folders on that machine.

    Where it need not be of files, what is missing is no error.
    """
    missing = _error if snapshot == "files" else _warning
    then = "no table can be copied" if snapshot == "files" else "tables are copied over CQL"
    if seen.jmx_problem:
        yield missing("jmx", f"nothing answers at {seen.jmx} ({seen.jmx_problem}); {then}")
    else:
        yield _ok("jmx", seen.jmx)
    if seen.unread:
        where = "for the agent" if seen.agent else "here"
        yield missing(
            "data_folders",
            f"{', '.join(seen.unread)} cannot be read; data_folders says where the node's data is "
            f"{where}{'' if snapshot == 'files' else f'; {then}'}",
        )
    elif seen.data_folders:
        yield _ok("data_folders", ", ".join(seen.data_folders))


def _deletes(settings: Settings) -> str:
    if settings.delete_cdc_raw:
        return "what is confirmed is deleted"
    return f"sources.{settings.source}.delete_cdc_raw deletes what is confirmed"


def listed(text: str) -> list[str]:
    """`[/a, /b]`, or with quotes, as 6.0 has it: the paths."""
    found = (each.strip(' "') for each in text.strip("[]").split(","))
    return [each for each in found if each]


def size(text: str) -> int:
    """`256MiB` in bytes; 0 where it is none."""
    found = re.fullmatch(r"(\d+)([kmg]?i?b)", text.lower())
    return int(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else 0


def table_findings(
    settings: Settings,
    tables: Sequence[Discovered],
    denied: Sequence[str],
    methods: Methods,
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
        elif why := methods.neither.get(found.schema.table):
            yield _error(subject, why)
        elif str(found.schema.table) not in denied:
            yield _ok(subject, f"key ({', '.join(found.schema.key)}){_how(methods, found)}")


def _how(methods: Methods, found: Discovered) -> str:
    """How it is copied, where that is not what is done by default."""
    if found.schema.table in methods.over_cql:
        return "; copied over CQL"
    why = methods.unfit.get(found.schema.table)
    return f"; copied from files, since {why}" if why else ""
