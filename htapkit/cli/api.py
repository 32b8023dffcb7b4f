"""What the HTTP port may ask of the running parts.

Status, verbs on tables and sources, verification, jobs.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from htapkit.backup import back_up, check_target
from htapkit.cli.export_parts import PartsAsked
from htapkit.cli.exports import Export, Exports, moment_of
from htapkit.cli.feeds import Feeds
from htapkit.cli.history import History
from htapkit.config import parse_seconds
from htapkit.errors import ConfigError
from htapkit.hot import HotStore
from htapkit.ingest import Mirror, Span, TableReport, imported, present_rows, repair, verify
from htapkit.jobs import Job, Progress
from htapkit.metrics import Metrics
from htapkit.model import TableId
from htapkit.query import whole_rows
from htapkit.tier import describe, files_of, microseconds, told

_FRESH_SECONDS = 60.0


class Api:
    """serve.http.Control over the parts of one server."""

    def __init__(
        self,
        mirrors: Mapping[str, Mirror],
        store: HotStore,
        metrics: Metrics,
        ports: Mapping[str, Callable[[], int]],
        history: History,
        exports: Exports,
        feeds: Feeds,
        reload: Callable[[], Mapping[str, Any]],
    ) -> None:
        """The parts must outlive the API."""
        self.reload = reload
        self._feeds = feeds
        self._exports = exports
        self._tiering = history.tiering
        self._jobs = history.jobs
        self._lake = history.lake
        self._imports = history.imports
        self._brought = history.brought
        self._folder = history.folder
        self._rows = partial(whole_rows, history.lake.files)
        self._mirrors = mirrors
        self._store = store
        self._metrics = metrics
        self._ports = ports

    def status(self) -> Mapping[str, Any]:
        """Sources and tables."""
        reports = [m.report() for m in self._mirrors.values()]
        sources = [
            {
                **dataclasses.asdict(r),
                "ready": r.ready,
                "tables": list(map(self._described, r.tables)),
            }
            for r in reports
        ]
        return {
            "sources": sources,
            "pid": os.getpid(),
            **{name: port() for name, port in self._ports.items()},
            "store": self._store.sizes(),
            "sinks": self._feeds.described(),
            "imported": self._imports.described(),
        }

    def ready(self) -> bool:
        """Every table of every source follows."""
        return all(m.report().ready for m in self._mirrors.values())

    def metrics(self) -> bytes:
        """Prometheus' text."""
        return self._metrics.text()

    def table_action(self, verb: str, table: str) -> Mapping[str, Any]:
        """pause, resume, resync."""
        mirror, table_id = self._table(table)
        if verb == "pause":
            mirror.pause(table_id)
        elif verb == "resume":
            mirror.resume(table_id)
        else:
            self._tiering.copy_anew(table_id)
            mirror.copy_again(table_id, "asked for by the user")
        return {"table": table, "done": verb}

    def detach(self, source: str) -> Mapping[str, Any]:
        """Stop mirroring and remove what attaching created."""
        if not self._feeds.detach(source):
            self._mirror(source).detach()
        return {"source": source, "done": "detach"}

    def verify(self, tables: list[str]) -> Mapping[str, Any]:
        """Compare; several sources one after the other."""
        wanted = [self._table(table) for table in tables]
        found = []
        for mirror in self._mirrors.values():
            chosen = [table for owner, table in wanted if owner is mirror]
            if wanted and not chosen:
                continue
            found.append(verify(mirror, self._store, self._rows, chosen))
        beside = [] if wanted else list(imported(self._store.catalog))
        beside += [each for f in found for each in f.not_compared]
        return {
            "equal": bool(found) and all(f.equal for f in found),
            "position": ", ".join(f.position for f in found),
            "seconds": round(sum(f.seconds for f in found), 2),
            "tables": [dataclasses.asdict(table) for f in found for table in f.tables],
            "not_compared": [dataclasses.asdict(each) for each in beside],
        }

    def tier(self, tables: list[str], older_than: str | None) -> Mapping[str, Any]:
        """Queue a tiering job."""
        chosen = [self._table(table)[1] for table in tables]
        try:
            seconds = None if older_than is None else parse_seconds(older_than)
        except ValueError as error:
            raise ConfigError(f"older_than: {error}, found {older_than!r}") from None
        return _shown(self._tiering.tier(chosen, seconds))

    def compact(self, tables: list[str], engine: str) -> Mapping[str, Any]:
        """Queue a compaction, here (engine "") or by another engine."""
        return _shown(self._tiering.compact([self._table(t)[1] for t in tables], engine))

    def expire(self, tables: list[str], engine: str) -> Mapping[str, Any]:
        """Queue an expiry, here (engine "") or by another engine."""
        return _shown(self._tiering.expire([self._table(t)[1] for t in tables], engine))

    def retain(self, tables: list[str]) -> Mapping[str, Any]:
        """Queue the dropping of what is too old."""
        return _shown(self._tiering.retain([self._table(t)[1] for t in tables]))

    def erase(self, table: str, condition: str) -> Mapping[str, Any]:
        """Queue an erasure; it begins when all that is committed now is here."""
        mirror, table_id = self._table(table)
        fresh = partial(mirror.freshness.wait_strong, _FRESH_SECONDS)
        return _shown(self._tiering.erase(table_id, condition, fresh))

    def export(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Queue an export: a statement (`sql`), or a table's rows (`table`, `from`, `to`).

        With `parts` they become a file for each hour, day or month.
        """
        path, format_ = str(wanted.get("path") or ""), str(wanted.get("format") or "parquet")
        source, sql, table = wanted.get("source"), wanted.get("sql"), wanted.get("table")
        begin, end, unit = wanted.get("from"), wanted.get("to"), wanted.get("parts")
        if (sql is None) == (table is None):
            raise ConfigError("give a statement or a table, one of them")
        if unit is not None and (table is None or begin is None or end is None):
            raise ConfigError("parts go with a table, from and to")
        if table is not None:
            table_id = self._table(str(table))[1]
            if unit is not None:
                asked = PartsAsked(str(table_id), str(begin), str(end), str(unit), format_)
                return _shown(self._exports.submit_parts(table_id, path, asked))
            source, sql = table_id.source, self._exports.table(table_id, begin, end)
        elif begin is not None or end is not None:
            raise ConfigError("from and to go with a table; a statement says it in its WHERE")
        chosen = str(source or next(iter(self._mirrors)))
        return _shown(self._exports.submit(Export(path, format_, chosen, str(sql))))

    def backup(self, folder: str) -> Mapping[str, Any]:
        """Queue a backup."""
        target = Path(folder)
        check_target(target)

        def work(progress: Progress) -> Mapping[str, Any]:
            made = back_up(self._store, self._lake, target, progress)
            return {
                "folder": folder,
                "positions": dict(made.positions),
                "rows": made.rows,
                "bytes": made.bytes,
            }

        return _shown(self._jobs.submit("backup", folder, work))

    def backfill(
        self, table: str, begin: str | None, end: str | None, parquet: str | None
    ) -> Mapping[str, Any]:
        """Queue the reading again of a table's rows in [begin, end), by its time column.

        With `parquet` they come from files, and become the table's history.
        """
        mirror, table_id = self._table(table)
        if parquet is not None:
            return self._bring(mirror, table_id, (begin, end), parquet)
        column = self._tiering.repairable(table_id).column.ordinal
        span = Span(table_id, column, *_times(begin, end))

        def work(progress: Progress) -> Mapping[str, Any]:
            return dataclasses.asdict(repair(mirror, self._store, self._rows, span, progress))

        # In the lane of tiering: the line must not move meanwhile.
        return _shown(self._jobs.submit("backfill", f"{table} [{begin}, {end})", work))

    def _bring(
        self, mirror: Mirror, table: TableId, times: tuple[str | None, str | None], parquet: str
    ) -> Mapping[str, Any]:
        self._tiering.repairable(table)
        span = _times(*times)
        files = files_of(self._folder, parquet)

        def present() -> Iterator[pa.RecordBatch]:
            mirror.freshness.wait_strong(_FRESH_SECONDS)
            return present_rows(mirror, self._store, self._rows, table)

        def work(progress: Progress) -> Mapping[str, Any]:
            rule = self._tiering.repairable(table)
            brought = self._brought.bring(files, rule, span, present, table, progress)
            return told(brought)

        subject = f"{table} [{times[0]}, {times[1]}) from {parquet}"
        return _shown(self._jobs.submit("backfill", subject, work))

    def import_table(self, table: str, as_name: str | None) -> Mapping[str, Any]:
        """Read an Iceberg table of the catalog from now on."""
        return describe(self._imports.add(table, as_name))

    def drop_import(self, table: str) -> Mapping[str, Any]:
        """Read an imported table no more."""
        return {"table": str(self._imports.drop(table)), "done": "drop"}

    def job(self, job_id: str) -> Mapping[str, Any]:
        """One job."""
        return _shown(self._jobs.get(job_id))

    def jobs(self) -> Mapping[str, Any]:
        """All jobs."""
        return {"jobs": [_shown(job) for job in self._jobs.all()]}

    def _described(self, report: TableReport) -> Mapping[str, Any]:
        """A table's report, with what is asked of its history."""
        table = TableId(*report.table.split(".", 2))
        return {**dataclasses.asdict(report), **self._tiering.described(table)}

    def _mirror(self, source: str) -> Mirror:
        if source not in self._mirrors:
            known = ", ".join(self._mirrors)
            raise ConfigError(f"no source '{source}'; there are: {known}")
        return self._mirrors[source]

    def _table(self, table: str) -> tuple[Mirror, TableId]:
        parts = table.split(".")
        if len(parts) != 3:
            raise ConfigError(f"'{table}': expected source.schema.table")
        mirror = self._mirror(parts[0])
        found = TableId(*parts)
        if found not in self._store.catalog.tables:
            raise ConfigError(f"'{table}' is not mirrored; see htapkit status")
        return mirror, found


def _times(begin: str | None, end: str | None) -> tuple[int | None, int | None]:
    """In microseconds. Raises ConfigError."""
    first, last = (None if t is None else microseconds(moment_of(t)) for t in (begin, end))
    if first is not None and last is not None and first >= last:
        raise ConfigError(f"from {begin} to {end}: no time lies in it; the end must come later")
    return first, last


def _shown(job: Job) -> Mapping[str, Any]:
    found = dataclasses.asdict(job)
    for name in ("queued_at", "ended_at"):
        found[name] = found[name].isoformat() if found[name] else None
    return found
