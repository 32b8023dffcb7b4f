"""What a server does about its history: the schedule, and the verbs that people ask for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

import structlog

from htapkit.config import Config, TableConfig
from htapkit.errors import ConfigError, HtapkitError
from htapkit.hot import HotStore
from htapkit.jobs import Job, JobRunner, Progress
from htapkit.metrics import Metrics
from htapkit.model import (
    ARCHIVE,
    Horizon,
    TableId,
    TableState,
    archive_of,
    origin_of,
    writer_of,
)
from htapkit.tier.erasure import Erasure
from htapkit.tier.retention import Retention
from htapkit.tier.rules import Rule, microseconds, rule_of
from htapkit.tier.tierer import Target, Tierer
from htapkit.tier.upkeep import Kept, Upkeep

_log = structlog.get_logger("htapkit.tier")


@dataclass(frozen=True, slots=True)
class Parts:
    """What does the work; only one of them at a time."""

    tierer: Tierer
    retention: Retention
    erasure: Erasure
    upkeep: Upkeep


class TierService:
    """Tiering of one server. One thread for the schedule; the work is done as jobs."""

    def __init__(
        self,
        config: Config,
        store: HotStore,
        parts: Parts,
        jobs: JobRunner,
        metrics: Metrics,
    ) -> None:
        """Nothing happens before `start`."""
        self._tables: Mapping[str, TableConfig] = config.tables
        self._interval = config.lake.interval
        self._store = store
        self._tierer, self._upkeep = parts.tierer, parts.upkeep
        self._retention, self._erasure = parts.retention, parts.erasure
        self._jobs = jobs
        self._metrics = metrics
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tier", daemon=True)

    def start(self) -> None:
        """Mend what a former process left, then follow the schedule."""
        self._thread.start()

    def stop(self) -> None:
        """End the schedule."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def take(self, tables: Mapping[str, TableConfig]) -> None:
        """Other rules from now on; a job that runs ends by those it began with."""
        self._tables = tables

    def rule(self, table: TableId) -> Rule:
        """How a table, or the archive of one, is tiered. Raises ConfigError where it is not."""
        status = self._store.catalog.tables.get(table)
        if status is None:
            raise ConfigError(f"'{table}' is not mirrored; see htapkit status")
        config = self._tables.get(str(origin_of(table) or table), TableConfig())
        return rule_of(status.schema, config)

    def repairable(self, table: TableId) -> Rule:
        """The rule of a table that takes a backfill. Raises ConfigError."""
        status = self._store.catalog.tables.get(table)
        if status is not None and status.schema.reconciled:
            raise ConfigError(f"{table} is kept cell by cell, so it takes no backfill")
        return self.rule(table)

    def described(self, table: TableId) -> Mapping[str, Any]:
        """What the configuration asks of a table's history, or why it cannot be done."""
        config = self._tables.get(str(table), TableConfig())
        asked = {"hot": config.hot, "retention": config.retention}
        keeps: dict[str, str] = {"on_delete": config.on_delete}
        status = self._store.catalog.tables.get(table)
        if config.on_delete == "keep" and status is not None and status.schema.reconciled:
            keeps["archive_why"] = "it is kept cell by cell, so it has no archive"
        try:
            rule = self.rule(table)
        except ConfigError as error:
            # Nobody needs to know why a table has no rule that is not to have one.
            why = str(error) if any(asked.values()) or config.time_column else ""
            return {**asked, **keeps, "time_column": "", "history_why": why}
        return {
            **asked,
            **keeps,
            "time_column": rule.column.name,
            "time_column_inferred": config.time_column is None,
            "partition": rule.layout.partition,
            "history_why": "",
        }

    def tier(self, tables: Sequence[TableId], hot_seconds: float | None) -> Job:
        """Move these tables' lines now, to `hot_seconds` ago or to where their own rule says.

        Their archives' as well. No tables: all that have a rule with `hot`. Raises ConfigError,
        LimitReached.
        """
        chosen = self._with_archives(tables) if tables else self._scheduled("hot")
        targets = self._targets(chosen, hot_seconds)
        if not targets:
            raise ConfigError("no table has `hot` in its configuration; name one, and --older-than")
        by_source: dict[tuple[str, str], list[Target]] = {}
        for target in sorted(targets, key=lambda each: each.table.source != ARCHIVE):
            # Archives first: the lake refuses none of them, whatever it says to their tables.
            source = (target.table.source, writer_of(target.table))
            by_source.setdefault(source, []).append(target)

        def work(progress: Progress) -> Mapping[str, Any]:
            moved = [
                m for chosen in by_source.values() for m in self._tierer.tier(chosen, progress)
            ]
            return {
                "tables": [
                    {"table": str(m.table), "below": m.below, "rows": m.rows, "folded": m.folded}
                    for m in moved
                ]
            }

        subject = ", ".join(f"{t.table} below {t.below}" for t in targets)
        return self._jobs.submit("tier", subject, work)

    def retain(self, tables: Sequence[TableId]) -> Job:
        """Drop what is older than these tables (none: all with `retention`) are kept.

        Raises ConfigError, LimitReached.
        """
        now = datetime.now(UTC)
        horizons: dict[TableId, Horizon] = {}
        for table in tables or self._scheduled("retention"):
            horizon = self.rule(table).horizon(now)
            if horizon is None:
                raise ConfigError(f"tables.{table}.retention is not set")
            horizons[table] = horizon
        if not horizons:
            raise ConfigError("no table has `retention` in its configuration")

        def work(progress: Progress) -> Mapping[str, Any]:
            done = self._retention.retain(horizons, progress)
            return {"tables": [{**asdict(each), "table": str(each.table)} for each in done]}

        subject = ", ".join(f"{table} since {h.since}" for table, h in horizons.items())
        return self._jobs.submit("retain", subject, work)

    def erase(self, table: TableId, condition: str, fresh: Callable[[], object]) -> Job:
        """Purge what is left of deleted rows; `fresh` waits until the copy has their deletion.

        Raises ConfigError (the condition cannot be judged), CatalogChanged, LimitReached.
        """
        self._erasure.check(table, condition)

        def work(progress: Progress) -> Mapping[str, Any]:
            fresh()
            done = self._erasure.erase(table, self.rule, condition, progress)
            return {
                "table": str(table),
                "folded": done.folded,
                "archived": done.archived,
                "gone_by": done.gone_by.isoformat(),
            }

        return self._jobs.submit("erase", f"{table}", work)

    def copy_anew(self, table: TableId) -> None:
        """Before a copy that somebody asked for: what it keeps is up to the rule of today."""
        status = self._store.catalog.tables.get(table)
        if status is None or status.horizon is None:
            return
        try:
            horizon = self.rule(table).horizon(datetime.now(UTC))
        except ConfigError:
            horizon = None
        self._store.copy_from(table, horizon, "asked for by the user")

    def compact(self, tables: Sequence[TableId], engine: str = "") -> Job:
        """Join small files of these tables (none: all in the lake), without what has ended.

        `engine` "": here; else the other engine of that name. Raises LimitReached, ConfigError.
        """
        self._upkeep.check(engine)
        by = partial(self._upkeep.compact_by, engine) if engine else self._upkeep.compact

        def work(chosen: Sequence[TableId], progress: Progress) -> Sequence[Kept]:
            for table in chosen:
                grace = self._tables.get(str(table), TableConfig()).grace
                before = datetime.now(UTC) - timedelta(seconds=grace)
                self._retention.forget_ended(table, microseconds(before))
            return by(chosen, progress)

        return self._upkeep_job("compact", work, tables)

    def expire(self, tables: Sequence[TableId], engine: str = "") -> Job:
        """Remove what nobody reads any more of these tables (none: all).

        `engine` as in `compact`. Raises LimitReached, ConfigError.
        """
        self._upkeep.check(engine)
        by = partial(self._upkeep.expire_by, engine) if engine else self._upkeep.expire
        return self._upkeep_job("expire", by, tables)

    def _upkeep_job(
        self,
        kind: str,
        keep: Callable[[Sequence[TableId], Progress], Sequence[Kept]],
        tables: Sequence[TableId],
    ) -> Job:
        def work(progress: Progress) -> Mapping[str, Any]:
            lake = self._upkeep.tables()
            archives = [each for each in self._with_archives(tables) if each in lake]
            done = keep(list(dict.fromkeys([*tables, *archives])) or lake, progress)
            return {
                "tables": [
                    {
                        "table": str(each.table),
                        "compacted": each.compacted,
                        "files_removed": each.files_removed,
                    }
                    for each in done
                ]
            }

        return self._jobs.submit(kind, ", ".join(map(str, tables)) or "all tables", work)

    def _with_archives(self, tables: Sequence[TableId]) -> Sequence[TableId]:
        """These tables, and their archives that can be read."""
        known = self._store.catalog
        archives = [archive_of(table) for table in tables]
        return [*tables, *(each for each in archives if known.readable(each) is not None)]

    def _targets(self, tables: Sequence[TableId], hot_seconds: float | None) -> Sequence[Target]:
        now = datetime.now(UTC)
        found = []
        for table in tables:
            rule = self.rule(table)
            kept = hot_seconds if hot_seconds is not None else rule.hot_seconds
            if kept is None:
                raise ConfigError(f"tables.{table}.hot is not set; give --older-than")
            if self._store.catalog.tables[table].state is not TableState.FOLLOWING:
                raise ConfigError(f"{table} is not followed now; see htapkit status")
            found.append(Target(table, rule, rule.line(now, kept)))
        return found

    def _scheduled(self, key: Literal["hot", "retention"]) -> Sequence[TableId]:
        """Tables with this key in the configuration that can be tiered now.

        With their archives, from which nothing is dropped.
        """
        asked = [
            TableId(*name.split("."))
            for name, config in self._tables.items()
            if getattr(config, key) is not None
        ]
        tables = []
        for table in self._with_archives(asked) if key == "hot" else asked:
            if self._store.catalog.readable(table) is None:
                continue
            try:
                self.rule(table)
            except ConfigError as error:
                _log.warning("table is not tiered", table=str(table), why=str(error))
                continue
            tables.append(table)
        return tables

    def _run(self) -> None:
        self._carefully(self._tierer.recover)
        while not self._stopping.wait(self._interval):
            moves, drops = self._scheduled("hot"), self._scheduled("retention")
            if drops:
                self._carefully(lambda: self.retain(()))
            if moves:
                self._carefully(lambda: self.tier((), None))
            if moves or drops or self._upkeep.tables():
                self._carefully(lambda: self.compact(()))
                self._carefully(lambda: self.expire(()))

    def _carefully(self, work: Callable[[], object]) -> None:
        """The schedule goes on, whatever one turn of it meets."""
        try:
            work()
        except HtapkitError as error:
            self._metrics.errors.labels(type(error).__name__).inc()
            _log.warning("tiering waits", why=str(error))
        except Exception as error:  # noqa: BLE001 - the top of a thread: it must go on
            self._metrics.errors.labels(type(error).__name__).inc()
            _log.exception("tiering failed")
