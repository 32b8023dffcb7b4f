"""Exports as jobs: a question, asked once under the configured role, and written as a whole."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from htapkit import failpoints
from htapkit.cli.export_parts import LIST, PartList, PartsAsked, parts_of
from htapkit.config import Config, ExportsConfig
from htapkit.errors import ConfigError, QueryCancelled
from htapkit.export import Bucket, FileFormat, Folder, Place, write_file
from htapkit.jobs import Job, JobRunner, Lane, Progress
from htapkit.lake import Lake
from htapkit.model import Column, TableId
from htapkit.serve.flight import Asked, Asker
from htapkit.serve.pgwire import Database
from htapkit.tier import TierService

ICEBERG = "iceberg"
FORMATS = (*FileFormat, ICEBERG)
_TABLE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SUBJECT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Export:
    """What to write where: one statement of one source."""

    path: str  # below exports.folder; of an Iceberg table, its name in the namespace `exports`
    format: str
    source: str
    sql: str


class Exports:
    """The exports of one server."""

    def __init__(
        self,
        config: Config,
        databases: Mapping[str, Database],
        lake: Lake,
        jobs: JobRunner,
        tiering: TierService,
    ) -> None:
        """Without `exports` in the configuration, every one is refused. Raises ConfigError."""
        wanted = config.exports
        self._lake, self._jobs, self._tiering = lake, jobs, tiering
        self._keep = timedelta(seconds=config.lake.keep)
        self._place = _place(config, wanted) if wanted else None
        self._asker = _asker(databases, wanted) if wanted else None

    def submit(self, export: Export) -> Job:
        """Queue it. Raises ConfigError, LimitReached."""
        place = self._ready()
        if export.format not in FORMATS:
            raise ConfigError(
                f"format: expected one of {', '.join(FORMATS)}, found '{export.format}'"
            )
        if export.format != ICEBERG:
            place.check(export.path)
        elif not _TABLE_NAME.fullmatch(export.path):
            raise ConfigError(
                f"'{export.path}': expected the name of an Iceberg table, a plain lower-case "
                "identifier"
            )
        digest = hashlib.sha256(repr(export).encode()).hexdigest()[:16]
        subject = f"{export.path}: {export.sql[:_SUBJECT_CHARACTERS]} ({digest})"
        return self._jobs.submit(
            "export", subject, lambda progress: self._run(export, progress), Lane.EXPORT
        )

    def submit_parts(self, table: TableId, path: str, asked: PartsAsked) -> Job:
        """Queue a file for each period of a table's time column. Raises ConfigError, LimitReached.

        What was cut off goes on where it stopped.
        """
        place = self._ready()
        if asked.format not in set(FileFormat):
            raise ConfigError(f"format: parts are files, parquet or csv, found '{asked.format}'")
        place.check(f"{path}/{LIST}")
        column = self._tiering.rule(table).column
        if asked.unit == "hour" and column.type.name == "date":
            raise ConfigError(f"{column.name} of {table} is a date: its parts are a day or a month")
        parts = {
            part.name: Export(
                f"{path}/{part.name}",
                asked.format,
                table.source,
                self.table(table, part.begin.isoformat(), part.end.isoformat()),
            )
            for part in parts_of(asked, moment_of(asked.begin), moment_of(asked.end))
        }
        digest = hashlib.sha256(repr((path, asked)).encode()).hexdigest()[:16]
        return self._jobs.submit(
            "export",
            f"{path}: {table} by {asked.unit} ({digest})",
            lambda progress: self._run_parts(parts, PartList(place, path, asked), progress),
            Lane.EXPORT,
        )

    def table(self, table: TableId, begin: str | None, end: str | None) -> str:
        """The statement for a table's rows, or for those in [begin, end) by its time column.

        Raises ConfigError.
        """
        sql = f"SELECT * FROM {_quoted(table.schema)}.{_quoted(table.name)}"  # noqa: S608 - quoted names
        if begin is None and end is None:
            return sql
        column = self._tiering.rule(table).column
        name = _quoted(column.name)
        bounds = [
            f"{name} {operator} {_literal(given, column)}"
            for operator, given in ((">=", begin), ("<", end))
            if given is not None
        ]
        return f"{sql} WHERE {' AND '.join(bounds)}"

    def close(self) -> None:
        """Stop the export that runs: nothing is left of it."""
        if self._asker is not None:
            self._asker.close()

    def _ready(self) -> Place:
        if self._asker is None or self._place is None:
            raise ConfigError("exports.folder is not set: this server writes no exports")
        return self._place

    def _run_parts(
        self, parts: Mapping[str, Export], listed: PartList, progress: Progress
    ) -> Mapping[str, Any]:
        listed.begin()
        kept = len(listed.done)
        for number, (name, export) in enumerate(parts.items(), 1):
            if name in listed.done:
                continue
            told = _after(progress, listed.rows, f"({number} of {len(parts)})")
            done = self._run(export, told)
            failpoints.reach("export.part")
            listed.add(name, done)
        listed.write(complete=True)
        return {
            "path": listed.folder,
            "format": listed.asked.format,
            "rows": listed.rows,
            "bytes": sum(done["bytes"] for done in listed.done.values()),
            "parts": len(parts),
            "kept": kept,
        }

    def _run(self, export: Export, progress: Progress) -> Mapping[str, Any]:
        assert self._asker is not None
        assert self._place is not None
        anew = export.format != ICEBERG and self._place.clear(export.path)
        with self._asker.ask(export.source, export.sql) as asked:
            _check_columns(asked.schema)
            batches = self._counted(asked, f"exporting {export.path}", progress)
            with contextlib.closing(batches):
                first = next(batches, None)  # from here on it is known what is read
                last = asked.last()
                told = {
                    "htapkit.sql": export.sql,
                    "htapkit.source": export.source,
                    "htapkit.position": last.position,
                }
                rows, bytes_ = self._written(export, asked, _chained(first, batches), told)
        return {
            "path": export.path,
            "format": export.format,
            "rows": rows,
            "bytes": bytes_,
            "route": last.route,
            "position": last.position,
            "started_anew": anew,
        }

    def _written(
        self,
        export: Export,
        asked: Asked,
        batches: Iterator[pa.RecordBatch],
        told: Mapping[str, str],
    ) -> tuple[int, int]:
        """How many rows and bytes."""
        if export.format == ICEBERG:
            counted = _Counted(batches)
            before = datetime.now(UTC) - self._keep
            self._lake.export(export.path, (asked.schema, counted), told, before)
            return counted.rows, 0
        assert self._place is not None
        schema = asked.schema
        if export.format == FileFormat.CSV:
            schema = pa.schema([pa.field(name, pa.large_string()) for name in schema.names])
            batches = map(asked.printed, batches)
        with self._place.new_file(export.path) as file:
            rows = write_file(file, FileFormat(export.format), schema, batches, told)
        return rows, self._place.size(export.path)

    def _counted(self, asked: Asked, step: str, progress: Progress) -> Generator[pa.RecordBatch]:
        done = 0
        progress(step, 0, 0)
        for batch in asked.batches:
            if self._jobs.stopping:
                raise QueryCancelled("the server is being stopped; nothing was written")
            yield batch
            done += batch.num_rows
            progress(step, done, 0)


class _Counted:
    """Batches that are counted as they pass."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch


def _after(progress: Progress, rows: int, which: str) -> Progress:
    return lambda step, done, _: progress(f"{step} {which}", rows + done, 0)


def _chained(
    first: pa.RecordBatch | None, rest: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    if first is not None:
        yield first
    yield from rest


def _place(config: Config, wanted: ExportsConfig) -> Place:
    if "://" not in wanted.folder:
        return Folder(Path(wanted.folder))
    storage = wanted.storage or config.lake.catalog
    return Bucket(wanted.folder, storage, config.data_dir / "exports")


def _asker(databases: Mapping[str, Database], wanted: ExportsConfig) -> Asker:
    return Asker(databases, wanted.user, wanted.password)


def _check_columns(schema: pa.Schema) -> None:
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"several columns are called {', '.join(twice)}; name them with AS in the statement"
        )


def moment_of(given: str) -> datetime:
    """A moment of the API; without a zone it is UTC. Raises ConfigError."""
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise ConfigError(f"'{given}': expected a moment such as 2026-01-31T00:00Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def _literal(given: str, column: Column) -> str:
    """A moment as SQL, in the type of a time column. Raises ConfigError."""
    at = moment_of(given)
    if column.type.name == "date":
        if at.time() != time():
            raise ConfigError(f"'{given}': {column.name} is a date, so give midnight UTC")
        return f"DATE '{at.date().isoformat()}'"
    text = at.replace(tzinfo=None).isoformat(" ", "microseconds")
    if column.type.name == "timestamptz":
        return f"TIMESTAMPTZ '{text}+00'"
    return f"TIMESTAMP '{text}'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
