"""The HTTP API, described once: what can be asked, what is sent and what comes back.

The routes (`http`) and the OpenAPI document (`openapi`) are made from this. Answers may have more
fields than are named here; requests may not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from htapkit.serve.control import Control


class Body(BaseModel):
    """A request without fields, and the root of the others."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


class TablesBody(Body):
    """Some tables."""

    tables: list[str] = Field([], description="source.schema.table; none: all that it can be for")


class EngineBody(TablesBody):
    """Whose work it is."""

    engine: str = Field("", description="such as spark; default: htapkit itself")


class TierBody(TablesBody):
    """How far to move the line."""

    older_than: str | None = Field(None, description="such as 7 days; default: each table's `hot`")


class _Range(Body):
    begin: str | None = Field(None, alias="from", description="a moment: rows of it and later")
    end: str | None = Field(None, alias="to", description="a moment: rows before it")


class ExportBody(_Range):
    """What to write where: a statement, or a table (with `from` and `to`)."""

    path: str = Field(description="below exports.folder; of an Iceberg table its name")
    sql: str | None = None
    table: str | None = None
    format: Literal["parquet", "csv", "iceberg"] = "parquet"
    source: str | None = Field(None, description="of the statement; default: the first")
    parts: Literal["hour", "day", "month"] | None = Field(
        None, description="with a table, from and to: `path` is a folder, with a file for each"
    )


class BackfillBody(_Range):
    """What to read again."""

    table: str = Field(description="source.schema.table")
    parquet: str | None = Field(
        None, description="a file or folder below imports.folder: history of the table"
    )


class EraseBody(Body):
    """Which deleted rows to purge what is left of."""

    table: str = Field(description="source.schema.table")
    where: str = Field(description="SQL on columns of the table, such as user_id = 17")


class ImportBody(Body):
    """Which Iceberg table to read, and what to call it."""

    table: str = Field(description="namespace.table, as the lake's catalog has it")
    as_name: str | None = Field(
        None, alias="as", description="[schema.]name; default: namespace.table"
    )


class BackupBody(Body):
    """Where to write a backup."""

    folder: str = Field(description="a new folder of the server's machine, as an absolute path")


class Answer(BaseModel):
    """What comes back: at least these fields."""

    model_config = ConfigDict(extra="allow", frozen=True)


class TableStatus(Answer):
    """A table, as `htapkit status` shows it."""

    table: str
    state: str
    rows: int
    why: str
    position: str
    lake_rows: int
    lake_below: str
    kept_since: str
    on_delete: str
    archived_rows: int | None
    archived_lake_rows: int
    archive_why: str
    time_column: str
    history_why: str


class SourceStatus(Answer):
    """A source with its tables."""

    name: str
    state: str
    why: str
    ready: bool
    position: str
    lag_bytes: int
    lag_ms: float | None
    tables: list[TableStatus]


class ImportedTable(Answer):
    """An imported Iceberg table."""

    table: str
    catalog_name: str
    state: str
    rows: int
    left_out: list[str]
    why: str


class SinkStatus(Answer):
    """A sink, and how far it is."""

    name: str
    source: str
    state: str
    why: str
    position: str
    lag_bytes: int
    kept_bytes: int
    rows_sent: int


class Status(Answer):
    """The server."""

    sources: list[SourceStatus]
    pid: int
    pgwire_port: int
    store: dict[str, float]
    sinks: list[SinkStatus]
    imported: list[ImportedTable]


class Done(Answer):
    """It is done."""

    done: str


class Reloaded(Answer):
    """What the configuration's file has changed."""

    tables: list[str] = Field(description="whose rules are others now")
    restart_for: list[str] = Field(description="keys that wait for the next start")


class Compared(Answer):
    """A table's comparison."""

    table: str
    equal: bool
    rows_source: int | None = Field(description="null: not compared")
    rows_copy: int | None
    examples: list[str]
    why: str = Field(description="of what was not compared, or of what that leaves open")


class NotCompared(Answer):
    """A table that no source can be asked about, or that does not follow."""

    table: str
    rows: int | None = Field(description="null: not counted")
    sound: bool | None = Field(
        description="of a history: whether all of it can be read, each key once; else null"
    )
    at_source: int | None = Field(description="of a history: rows whose key the source has, too")
    why: str


class Verification(Answer):
    """Source and copy, compared at one position."""

    equal: bool = Field(description="all tables were compared and are equal, each history is sound")
    position: str
    seconds: float
    tables: list[Compared]
    not_compared: list[NotCompared]


class JobAnswer(Answer):
    """A job: ask for it until its state is done or failed."""

    id: str
    kind: str
    subject: str
    state: Literal["queued", "running", "done", "failed"]
    step: str
    done: int
    total: int
    why: str
    sqlstate: str
    result: dict[str, Any]
    queued_at: str | None
    ended_at: str | None


class Jobs(Answer):
    """All jobs that are still known, oldest first."""

    jobs: list[JobAnswer]


class Problem(Answer):
    """An error: what, which, what to do."""

    error: str
    sqlstate: str


Call = Callable[[Control, Mapping[str, str], Any], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked. A 202 has queued a job."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    summary: str
    answer: type[Answer]
    call: Call
    body: type[Body] = Body
    status: int = 200


@dataclass(frozen=True, slots=True)
class Probe:
    """What anybody may ask, without a token; the answer is text."""

    name: str
    path: str
    summary: str
    statuses: Sequence[int] = (200,)


LIVE = Probe("livez", "/livez", "The process works.")
READY = Probe("readyz", "/readyz", "Every table is copied and followed.", (200, 503))
METRICS = Probe("metrics", "/metrics", "Prometheus' text.")
PROBES = (LIVE, READY, METRICS)


def _table_action(verb: Literal["pause", "resume", "resync"], summary: str) -> Operation:
    path = f"/api/v1/tables/{{table}}/{verb}"
    return Operation(
        verb, "POST", path, summary, Done, lambda c, p, _: c.table_action(verb, p["table"])
    )


def _job(name: str, summary: str, body: type[Body], call: Call) -> Operation:
    return Operation(name, "POST", f"/api/v1/{name}", summary, JobAnswer, call, body, 202)


OPERATIONS = (
    Operation(
        "status",
        "GET",
        "/api/v1/status",
        "Sources and tables.",
        Status,
        lambda c, _p, _b: c.status(),
    ),
    _table_action("pause", "Keep a table's changes aside; the source answers for it."),
    _table_action("resume", "Follow a paused table again."),
    _table_action("resync", "Copy a table again from the source."),
    Operation(
        "detach",
        "POST",
        "/api/v1/sources/{source}/detach",
        "Remove what attaching created at the source, and forget the copy.",
        Done,
        lambda c, p, _: c.detach(p["source"]),
    ),
    Operation(
        "reload",
        "POST",
        "/api/v1/reload",
        "Read the configuration again: rules of tables change at once.",
        Reloaded,
        lambda c, _p, _b: c.reload(),
    ),
    Operation(
        "verify",
        "POST",
        "/api/v1/verify",
        "Compare source and copy at one position; takes as long as reading both.",
        Verification,
        lambda c, _, b: c.verify(b.tables),
        TablesBody,
    ),
    _job(
        "tier",
        "Move closed ranges to the lake.",
        TierBody,
        lambda c, _, b: c.tier(b.tables, b.older_than),
    ),
    _job(
        "compact",
        "Join small files of the lake.",
        EngineBody,
        lambda c, _, b: c.compact(b.tables, b.engine),
    ),
    _job(
        "expire",
        "Remove versions of the lake that nobody needs any more.",
        EngineBody,
        lambda c, _, b: c.expire(b.tables, b.engine),
    ),
    _job(
        "retain",
        "Drop what is older than `retention` from the copy.",
        TablesBody,
        lambda c, _, b: c.retain(b.tables),
    ),
    _job(
        "erase",
        "Purge what is left in the copy of rows that were deleted at the source.",
        EraseBody,
        lambda c, _, b: c.erase(b.table, b.where),
    ),
    _job(
        "export",
        "Write a statement's or a table's rows to a file or an Iceberg table.",
        ExportBody,
        lambda c, _, b: c.export(b.model_dump()),
    ),
    _job(
        "backfill",
        "Read a time range of a table again from the source, and correct the copy; or bring "
        "history that the source does not have from Parquet files.",
        BackfillBody,
        lambda c, _, b: c.backfill(b.table, b.begin, b.end, b.parquet),
    ),
    Operation(
        "import",
        "POST",
        "/api/v1/imports",
        "Read an Iceberg table of the lake's catalog from now on.",
        ImportedTable,
        lambda c, _, b: c.import_table(b.table, b.as_name),
        ImportBody,
    ),
    Operation(
        "drop import",
        "POST",
        "/api/v1/imports/{table}/drop",
        "Read an imported table no more; nothing of it is removed.",
        Done,
        lambda c, p, _: c.drop_import(p["table"]),
    ),
    _job(
        "backup",
        "Write a backup of hot store and lake.",
        BackupBody,
        lambda c, _, b: c.backup(b.folder),
    ),
    Operation(
        "jobs", "GET", "/api/v1/jobs", "All jobs still known.", Jobs, lambda c, _p, _b: c.jobs()
    ),
    Operation(
        "job",
        "GET",
        "/api/v1/jobs/{job}",
        "A job as it is now.",
        JobAnswer,
        lambda c, p, _: c.job(p["job"]),
    ),
)
