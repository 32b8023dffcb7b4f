"""One feed: a source's changes, sent on to a sink by a thread of its own, whatever happens.

The copy knows nothing of it. What goes wrong decides what happens next: who does not answer is
asked again, who says no is left alone for a while, and where the source keeps too much of its log
for us it is let go, and the feed stays detached until somebody acts (or begins anew, where the
configuration says so).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from htapkit import failpoints
from htapkit.errors import (
    HtapkitError,
    PositionLost,
    SinkFailed,
    SinkRefused,
    SourceError,
    SourceUnavailable,
)
from htapkit.feed.reader import Reader
from htapkit.feed.round import Round, anew
from htapkit.ingest.retained import Retained
from htapkit.metrics import Metrics
from htapkit.sinks import Sink, Stage
from htapkit.spi import Retains

_log = structlog.get_logger("htapkit.feed")
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_REFUSED_SECONDS = 10.0
_JOIN_SECONDS = 20.0
_RETAINED_SECONDS = 2.0


class FeedState(StrEnum):
    """Where a feed stands."""

    STARTING = "starting"
    SENDING = "sending"
    UNAVAILABLE = "unavailable"  # the source or the sink does not answer; retried
    REFUSED = "refused"  # one of them said no, somebody has to act; retried slowly
    DETACHED = "detached"  # the source keeps nothing for it; somebody has to act
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How a feed is kept."""

    watch_interval_seconds: float = 5.0
    slot_lag_bytes_max: int = 4 * 10**9
    slot_lag_seconds_max: float = 600.0
    slot_lag_drops: bool = True
    tables: tuple[str, ...] = ("*.*",)  # patterns of `schema.name`; `!` in front: not these
    copy_rows: int = 50_000  # in one transaction of the sink
    copies_anew: bool = False  # where the log has a gap; else it stays detached


@dataclass(frozen=True, slots=True)
class FedReport:
    """One table of a feed."""

    table: str
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class FeedReport:
    """One feed as `htapkit status` shows it."""

    name: str
    source: str
    state: str
    why: str
    position: str  # all commits up to it are in the sink
    lag_bytes: int
    kept_bytes: int  # log that the source keeps for it
    rows_sent: int  # since this process began
    tables: tuple[FedReport, ...]


class Feed:
    """Sends until `stop`; `report` says how it goes."""

    def __init__(
        self,
        names: tuple[str, str],
        source: Reader,
        sink: Sink,
        metrics: Metrics,
        options: FeedOptions,
    ) -> None:
        """`names`: the feed's (and sink's), and the source's; `source` is its own place there."""
        self.name, self.source_name = names
        self._source = source
        self._sink = sink
        self._metrics = metrics
        self._options = options
        self._stopping = threading.Event()
        self._retained = Retained(options.slot_lag_bytes_max, options.slot_lag_seconds_max)
        self._retained_at = -math.inf
        self._kept = 0
        self._letting_go = ""  # why the source is to forget what the sink has not got
        self._alone_until = 0.0
        self._gap = ""  # why all has to be copied anew
        self._round: Round | None = None
        self._last: tuple[str, tuple[FedReport, ...]] = ("", ())
        self.state, self.why = FeedState.STARTING, ""
        self.rows_sent = self._failures = 0
        metrics.begin_sink(self.name)
        self._thread = threading.Thread(target=self.run, name=f"feed-{self.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self) -> None:
        """End soon; `stop` waits for it."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop cleanly: what is not committed is given up. Safe to call twice."""
        self.end()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        self._source.close()

    def detach(self) -> None:
        """Stop, and give up the feed's place in the source's log; then the sink's position.

        Raises SourceError, SinkFailed: then it is done as far as it is said.
        """
        self.stop()
        round_ = self._round
        if round_ is not None:
            round_.leave()  # its thread still waits for the sink; the source need not
        self._source.detach()
        session = self._sink.open()
        try:
            session.commit(anew(session.progress, "it was detached"))
        finally:
            session.close()
            self._source.close()

    def report(self) -> FeedReport:
        """How it goes, now."""
        round_ = self._round
        if round_ is not None:
            fed = [
                (table, each)
                for table, each in sorted(round_.tables.copy().items())
                if each.stage is not Stage.GONE
            ]
            tables = tuple(FedReport(str(t), f.stage.value, f.why) for t, f in fed)
            self._last = (str(round_.stored or ""), tables)
        position, tables = self._last
        lag = round_.lag_bytes() if round_ is not None else 0
        return FeedReport(
            self.name,
            self.source_name,
            self.state.value,
            self.why,
            position,
            lag,
            self._kept,
            self.rows_sent,
            tables,
        )

    def measure(self) -> None:
        """Look at what the source keeps for us, and set the metrics. Raises SourceError."""
        metrics, name = self._metrics, self.name
        metrics.sink_lag_bytes.labels(name).set(self.report().lag_bytes)
        now = time.monotonic()
        if now < self._retained_at + _RETAINED_SECONDS:
            return
        self._retained_at = now
        source, options = self._source, self._options
        assert isinstance(source, Retains), "a reader retains"
        kept = self._kept = source.retained_bytes()
        metrics.sink_lag_headroom_bytes.labels(name).set(options.slot_lag_bytes_max - kept)
        caught_up = self.state is FeedState.SENDING
        if self._letting_go:
            return  # the thread will see to it
        if options.slot_lag_drops and self._retained.look(kept, now, caught_up=caught_up):
            self._letting_go = (
                f"limits.slot_lag: {self.source_name} kept {kept} bytes of its log for the sink "
                f"{name}, {options.slot_lag_bytes_max} are allowed, and it went on growing for "
                f"{options.slot_lag_seconds_max:g} s, so it was detached for the sake of the "
                "source's disk"
            )

    # -- the thread --

    def run(self) -> None:
        """Send until `stop`, whatever happens."""
        while not self._stopping.is_set():
            try:
                self._let_go_if_due()
                if self.state is not FeedState.DETACHED:
                    self._send()
                self._stopping.wait(_BACKOFF_SECONDS[1])
            except PositionLost as error:
                self._lost(str(error))
            except SinkRefused as error:
                self._failed(FeedState.REFUSED, error, _REFUSED_SECONDS)
            except (SourceUnavailable, SinkFailed) as error:
                pause = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)]
                self._failures += 1
                self._failed(FeedState.UNAVAILABLE, error, pause)
            except SourceError as error:
                self._failed(FeedState.REFUSED, error, _REFUSED_SECONDS)
            except Exception as error:  # noqa: BLE001 - the top of a thread: it must go on
                _log.exception("feed failed", sink=self.name)
                self._failed(FeedState.UNAVAILABLE, error, _BACKOFF_SECONDS[-1])
        self.state = FeedState.STOPPED

    def _send(self) -> None:
        """One round."""
        session = self._sink.open()
        round_ = None
        try:
            failpoints.reach("sink.opened")
            round_ = Round(
                self._source,
                session,
                self._count,
                self._options.copy_rows,
                anew_for=self._gap,
                ended=self._ending,
            )
            self._round = round_
            round_.look(self._options.tables)
            round_.open()
            self._gap = ""
            self._began(round_)
            self._steps(round_)
        finally:
            self._metrics.sink_up.labels(self.name).set(0)
            self.report()  # keeps what is known
            self._round = None
            _close(round_.close if round_ is not None else session.close)

    def _began(self, round_: Round) -> None:
        self.state, self.why = FeedState.SENDING, ""
        self._metrics.sink_up.labels(self.name).set(1)
        _log.info("sending", sink=self.name, position=round_.position or "its end")

    def _steps(self, round_: Round) -> None:
        looked_at = time.monotonic()
        while not self._ending():
            round_.step()
            due = time.monotonic() - looked_at >= self._options.watch_interval_seconds
            if due and round_.whole:
                if round_.look(self._options.tables):
                    return  # the next stream has the new tables, too
                looked_at = time.monotonic()

    def _ending(self) -> bool:
        return self._stopping.is_set() or bool(self._letting_go)

    def _count(self, rows: int, transactions: int) -> None:
        self._failures = 0  # not before: what cannot be sent is no reason to hurry
        self.rows_sent += rows
        self._metrics.sink_rows.labels(self.name).inc(rows)
        self._metrics.sink_commits.labels(self.name).inc(transactions)

    def _let_go_if_due(self) -> None:
        """Before anything else is asked of the source: its disk may be filling."""
        why = self._letting_go
        if not why:
            left = self._alone_until - time.monotonic()
            if self._gap and left > 0:
                raise SourceUnavailable(f"{self._gap}; it begins anew in {left:.0f} s")
            return
        assert isinstance(self._source, Retains), "a reader retains"
        self._source.let_go()
        self._letting_go = ""
        self._kept = 0
        if self.state is FeedState.DETACHED:
            return  # it has said why: its position was lost before, and its place was there still
        self._metrics.sinks_detached.labels(self.name).inc()
        self._alone_until = time.monotonic() + self._retained.pause_seconds
        raise PositionLost(why)

    def _lost(self, why: str) -> None:
        """The log after the sink's position is gone."""
        self._metrics.errors.labels(PositionLost.__name__).inc()
        if self._options.copies_anew:
            _log.warning("all is copied anew", sink=self.name, why=why)
            self._gap = self.why = why
            self.state = FeedState.UNAVAILABLE
            return
        self.state = FeedState.DETACHED
        self.why = (
            f"{why}; to have all tables copied to it again, set sinks.{self.name}.on_gap: copy "
            "and restart"
        )
        _log.error("sink detached", sink=self.name, why=self.why)

    def _failed(self, state: FeedState, error: Exception, pause_seconds: float) -> None:
        self.state, self.why = state, str(error)
        self._metrics.errors.labels(type(error).__name__).inc()
        _log.warning("not sending", sink=self.name, state=state.value, why=str(error))
        self._stopping.wait(pause_seconds)


def _close(close: Callable[[], None]) -> None:
    try:
        close()
    except HtapkitError as error:
        _log.warning("cannot close", why=str(error))
