"""One source, mirrored: what keeps it going, and what others may ask of it.

Two threads. The follower applies the stream (`follower.py`); the keeper looks at the source's
catalog, copies tables and asks the follower, through a queue, for what must happen between two
batches. Neither ever guesses: a table that is in doubt is copied again, a source that is in doubt
is not followed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from htapkit.errors import SourceError
from htapkit.hot import HotStore
from htapkit.ingest.copier import Copier, CopyLimits
from htapkit.ingest.follower import Follower
from htapkit.ingest.freshness import Freshness
from htapkit.ingest.retained import Retained
from htapkit.ingest.status import SourceReport, TableReport, logs_behind
from htapkit.ingest.watcher import Watcher
from htapkit.metrics import Metrics
from htapkit.model import Position, TableId, TableState, archive_of
from htapkit.spi import Paced, Retains, Source

_log = structlog.get_logger("htapkit.ingest")
_POLL_SECONDS = 0.5
_RETRY_SECONDS = 1.0
_JOIN_SECONDS = 20.0
_REACH_SECONDS = 600.0
_RATE_SAMPLES = 6
_RETAINED_SECONDS = 2.0

REPAIRING = "htapkit backfill reads a range of it again"
"""Why a table is paused while it is repaired: with this reason it is resumed after a crash."""


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """How one source is kept."""

    watch_interval_seconds: float = 5.0
    snapshot_readers: int = 2
    slot_lag_bytes_max: int = 4 * 10**9
    slot_lag_seconds_max: float = 600.0
    slot_lag_drops: bool = True
    range_rows: int = 20_000_000


class Mirror:
    """Keeps one source's copy exact. `start` returns at once; `report` says how it goes."""

    def __init__(
        self,
        name: str,
        source: Source,
        store: HotStore,
        metrics: Metrics,
        options: MirrorOptions = MirrorOptions(),
    ) -> None:
        """Nothing is touched before `start`."""
        self.name = name
        self.source = source
        self._store = store
        self._metrics = metrics
        self._options = options
        self._stopping = threading.Event()
        self._rates: list[tuple[float, int]] = []
        self._retained = Retained(options.slot_lag_bytes_max, options.slot_lag_seconds_max)
        self._retained_at = -math.inf
        metrics.begin(name)
        self.retained_bytes = 0  # log that the source keeps for us, as last seen
        self._follower = Follower(name, source, store, metrics, self._prepare, self._wake)
        self.freshness = Freshness(
            name,
            store,
            source.head,
            source.positions,
            self._follower.nudge,
            time.monotonic,
            behind=lambda seconds: "; ".join(logs_behind(self._follower.logs(), seconds)),
        )
        between = self._follower.between_batches
        follower = self._follower
        self._watcher = Watcher(name, source, store, between, follower.reopen, follower.fingerprint)
        reach = partial(self.freshness.wait_for, timeout_seconds=_REACH_SECONDS)
        self._copier = Copier(
            name,
            source,
            store,
            metrics,
            limits=CopyLimits(options.snapshot_readers, options.range_rows),
            between_batches=between,
            reach=reach,
        )
        self._threads = (
            threading.Thread(target=self._follower.run, name=f"follow-{name}", daemon=True),
            threading.Thread(target=self._keep, name=f"keep-{name}", daemon=True),
        )

    def start(self) -> None:
        """Start both threads. A repair that a former process was at is given up."""
        for table, status in self._store.catalog.tables.items():
            stopped = status.state is TableState.PAUSED and status.why == REPAIRING
            if table.source == self.name and stopped:
                _log.info("a repair was cut off", table=str(table))
                self.resume(table)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop cleanly. Safe to call twice."""
        self._stopping.set()
        self._copier.stop()
        self._follower.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_JOIN_SECONDS)
        self.source.close()

    def held_at(
        self, open_position: Callable[[], Position], work: Callable[[Position], object]
    ) -> object:
        """Run `work` while the copy stands exactly at the position that `open_position` gives.

        The follower waits while `open_position` runs, so that it cannot overshoot.
        """
        return self._follower.hold.run(open_position, work)

    def copy_again(self, table: TableId, why: str) -> None:
        """Copy a table anew; its statements go to the source meanwhile."""
        self._follower.between_batches(lambda: self._store.copy_again(table, why))
        self._wake()

    def pause(self, table: TableId) -> None:
        """Keep a table's changes aside from now on."""
        self._follower.between_batches(
            lambda: self._store.set_state(table, TableState.PAUSED, "paused by the user")
        )

    def resume(self, table: TableId) -> None:
        """Follow a paused table again: what was kept aside is applied first.

        A table that was paused while it was copied is copied again, or on where that can be. One
        that follows goes on.
        """
        status = self._store.catalog.tables.get(table)
        if status is not None and status.state is TableState.FOLLOWING:
            return
        if status is not None and status.copy_position is not None:
            if self._store.copying.ranged(table) is None:
                self.copy_again(table, "it was paused while it was copied")
            else:
                self._store.copying.go_on(table)
                self._wake()
            return
        self._store.finish_copy(table, self.source.positions.covers)

    def looked_at(self) -> float:
        """When (time.monotonic) the last whole look at the source's catalog began."""
        return self._watcher.looked_at

    def look_soon(self) -> None:
        """Look at the source's catalog before it is due again."""
        self._wake()

    def detach(self) -> None:
        """Stop, remove what attaching created at the source, and forget the copy."""
        self.stop()
        self.source.detach()
        self._store.drop_source(self.name)

    def report(self) -> SourceReport:
        """How it goes, now."""
        follower = self._follower
        lag = self.freshness.lag_seconds()
        behind, kept = follower.lag_bytes(), self.retained_bytes
        warnings = self._watcher.warnings()
        if kept > self._options.slot_lag_bytes_max:
            warnings = (*warnings, _far_behind(kept, self._options.slot_lag_bytes_max))
        if isinstance(self.source, Paced) and (slowed := self.source.pace()[1]):
            warnings = (*warnings, slowed)
        warnings = (*warnings, *logs_behind(follower.logs()))
        return SourceReport(
            name=self.name,
            state=follower.state.value,
            why=follower.why,
            position=str(self._store.applied(self.name).position or ""),
            lag_bytes=behind,
            lag_ms=None if lag is None else round(lag * 1000, 1),
            rows_per_second=self._rate(),
            rows_applied=follower.rows_applied,
            warnings=warnings,
            tables=tuple(self._table_reports()),
        )

    def look_at_retained(self) -> None:
        """Ask how much log the source keeps for us, streaming or not; let it go if it must be.

        Raises SourceError.
        """
        source, options, now = self.source, self._options, time.monotonic()
        if not isinstance(source, Retains) or now < self._retained_at + _RETAINED_SECONDS:
            return
        self._retained_at = now
        kept, limit = source.retained_bytes(), options.slot_lag_bytes_max
        self._metrics.slot_spilled_bytes.labels(self.name).set(source.spilled_bytes())
        self._metrics.slot_lag_headroom_bytes.labels(self.name).set(limit - kept)
        self.retained_bytes = kept  # after the metrics: whoever is warned finds them there
        if not options.slot_lag_drops or not self._retained.look(
            kept, now, caught_up=self.report().caught_up
        ):
            return
        why = (
            f"limits.slot_lag: {self.name} kept {kept} bytes of its log for us, {limit} are "
            f"allowed, and it went on growing for {options.slot_lag_seconds_max:g} s, so the slot "
            "was dropped for the sake of the source's disk; all is copied again on a new one"
        )
        _log.warning("source let go", source=self.name, why=why, rounds=self._retained.rounds)
        self._metrics.slots_let_go.labels(self.name).inc()
        self._follower.let_go(why, self._retained.pause_seconds)

    def measure(self) -> None:
        """Sample the source's head and set the metrics. Raises SourceError."""
        now = time.monotonic()
        self._rates = [*self._rates[1 - _RATE_SAMPLES :], (now, self._follower.rows_applied)]
        if self._follower.streaming.is_set():
            self.freshness.sample()
            self._follower.ask()  # nobody waits: the lag has what is gathered
        report = self.report()
        metrics, name = self._metrics, self.name
        metrics.lag_bytes.labels(name).set(report.lag_bytes)
        metrics.queue_bytes.labels(name).set(self._follower.queued_bytes())
        if report.lag_ms is not None:
            metrics.lag_ms.labels(name).set(report.lag_ms)
        for log in self._follower.logs():
            metrics.log_lag_ms.labels(name, log.log).set(round(log.behind_seconds * 1000, 1))
        if isinstance(self.source, Paced):
            metrics.copy_pace.labels(name).set(self.source.pace()[0])
        for state in [*TableState, "problem"]:
            count = sum(t.state == state for t in report.tables)
            metrics.tables.labels(name, str(state)).set(count)

    def _table_reports(self) -> list[TableReport]:
        reports = []
        tables = self._store.catalog.tables
        for table, status in sorted(tables.items()):
            if table.source != self.name:
                continue
            archive = tables.get(archive_of(table))
            archived = archive.boundary.pin.rows if archive and archive.boundary else 0
            copied, estimate = self._copier.progress(table)
            copying = status.state is TableState.COPYING
            reports.append(
                TableReport(
                    table=str(table),
                    state=status.state.value,
                    rows=copied if copying else status.rows,
                    rows_estimate=estimate if copying else status.rows,
                    why=status.why,
                    position=str(status.position or ""),
                    text_columns=tuple(sorted(self._store.text_columns(table))),
                    lake_rows=status.boundary.pin.rows if status.boundary else 0,
                    lake_below=status.boundary.moment.isoformat() if status.boundary else "",
                    kept_since=status.horizon.moment.isoformat() if status.horizon else "",
                    archived_rows=archive.rows + archived if archive else None,
                    archived_lake_rows=archived,
                    archive_why=archive.why if archive else "",
                )
            )
        problems = self._watcher.problems()
        return reports + [TableReport(str(t), "problem", 0, 0, p, "") for t, p in problems.items()]

    def _prepare(self) -> None:
        self._watcher.prepare()

    def _wake(self) -> None:
        self._copier.wake()

    def _keep(self) -> None:
        """Watch and copy, whenever the follower streams."""
        while not self._stopping.is_set():
            if not self._follower.streaming.wait(_POLL_SECONDS):
                continue
            try:
                if self._watcher.look():
                    self._metrics.catalog_looks.labels(self.name).inc()
                self._copier.run(self._stopping)
            except SourceError as error:
                _log.warning("keeper waits", source=self.name, why=str(error))
                self._stopping.wait(_RETRY_SECONDS)
            except Exception as error:  # noqa: BLE001 - the top of a thread: it must go on
                self._metrics.errors.labels(type(error).__name__).inc()
                _log.exception("keeper failed", source=self.name)
                self._stopping.wait(_RETRY_SECONDS)
            self._copier.wait(self._options.watch_interval_seconds, self._stopping)

    def _rate(self) -> float:
        """Row changes a second over the last few samples."""
        if not self._rates:
            return 0.0
        then, before = self._rates[0]
        passed = max(time.monotonic() - then, 0.001)
        return round((self._follower.rows_applied - before) / passed, 1)


def _far_behind(kept: int, limit: int) -> str:
    return (
        f"limits.slot_lag: the source keeps {kept} bytes of its log for us, {limit} are allowed: "
        "give this machine more CPU or disk, mirror fewer tables, or `htapkit detach` it"
    )
