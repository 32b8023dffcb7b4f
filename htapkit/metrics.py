"""Every metric of htapkit, by its Prometheus name, in one place.

Counts and measures; never decides.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """One registry for one server process."""

    def __init__(self) -> None:
        """Make all metrics, at zero."""
        self.before_text: list[Callable[[], None]] = []
        """What brings counts that are kept elsewhere."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._make_following(self.registry)
        self._make_stored(self.registry)
        self._make_serving(self.registry)
        self._make_sinks(self.registry)

    def _make_following(self, r: CollectorRegistry) -> None:
        self.rows_applied = Counter(
            "htapkit_rows_applied", "Row changes applied to the hot store", ["source"], registry=r
        )
        self.commits_applied = Counter(
            "htapkit_commits_applied", "Source transactions applied", ["source"], registry=r
        )
        self.batches_applied = Counter(
            "htapkit_batches_applied", "Hot store transactions with changes", ["source"], registry=r
        )
        self.apply_seconds = Histogram(
            "htapkit_apply_seconds", "Applying one batch", ["source"], buckets=_SECONDS, registry=r
        )
        self.lag_bytes = Gauge(
            "htapkit_lag_bytes", "Source log not yet received", ["source"], registry=r
        )
        self.queue_bytes = Gauge(
            "htapkit_queue_bytes", "Received, and not yet being applied", ["source"], registry=r
        )
        self.lag_ms = Gauge(
            "htapkit_lag_ms",
            "From the head of the source to here, as last seen",
            ["source"],
            registry=r,
        )
        self.log_lag_ms = Gauge(
            "htapkit_log_lag_ms",
            "The same through each log of a source that has several",
            ["source", "log"],
            registry=r,
        )
        self.slot_lag_headroom_bytes = Gauge(
            "htapkit_slot_lag_headroom_bytes",
            "limits.slot_lag less the log that the source keeps for us",
            ["source"],
            registry=r,
        )
        self.slot_spilled_bytes = Gauge(
            "htapkit_slot_spilled_bytes",
            "What the source wrote to files for transactions larger than decoding_memory",
            ["source"],
            registry=r,
        )
        self.slots_let_go = Counter(
            "htapkit_slots_let_go",
            "Times the source was told to forget log over limits.slot_lag",
            ["source"],
            registry=r,
        )
        self.source_up = Gauge(
            "htapkit_source_up", "1 while changes stream", ["source"], registry=r
        )
        self.stream_restarts = Counter(
            "htapkit_stream_restarts", "Change streams opened", ["source"], registry=r
        )
        self.catalog_looks = Counter(
            "htapkit_catalog_looks", "Whole looks at the source's catalog", ["source"], registry=r
        )

    def _make_stored(self, r: CollectorRegistry) -> None:
        self.tables = Gauge("htapkit_tables", "Tables by state", ["source", "state"], registry=r)
        self.copied_rows = Counter(
            "htapkit_copied_rows", "Rows read by snapshots", ["source"], registry=r
        )
        self.copies = Counter(
            "htapkit_copies", "Copies of tables that were finished", ["source", "of"], registry=r
        )
        self.copy_pace = Gauge(
            "htapkit_copy_pace", "Readers that copies may have now", ["source"], registry=r
        )
        self.tiered_rows = Counter(
            "htapkit_tiered_rows",
            "Rows moved from the hot store to the lake",
            ["source"],
            registry=r,
        )
        self.dropped_rows = Counter(
            "htapkit_dropped_rows",
            "Hot rows that were dropped because they are older than retention",
            ["source"],
            registry=r,
        )
        self.store_bytes = Gauge(
            "htapkit_store_bytes",
            "Hot store by part: file, wal, staged, memory, temp",
            ["part"],
            registry=r,
        )

    def _make_serving(self, r: CollectorRegistry) -> None:
        self.statements = Counter(
            "htapkit_statements", "Client statements by route", ["route"], registry=r
        )
        self.statement_seconds = Histogram(
            "htapkit_statement_seconds", "Local statements", ["route"], buckets=_SECONDS, registry=r
        )
        self.clients = Gauge("htapkit_clients", "Connected clients", ["port"], registry=r)
        self.freshness_waits = Counter(
            "htapkit_freshness_waits", "Waits for a position", ["source", "how"], registry=r
        )
        self.errors = Counter("htapkit_errors", "Errors by class", ["error"], registry=r)

    def _make_sinks(self, r: CollectorRegistry) -> None:
        self.sink_rows = Counter(
            "htapkit_sink_rows", "Row changes and copied rows sent to a sink", ["sink"], registry=r
        )
        self.sink_commits = Counter(
            "htapkit_sink_commits", "Transactions committed in a sink", ["sink"], registry=r
        )
        self.sink_lag_bytes = Gauge(
            "htapkit_sink_lag_bytes", "Source log not yet received for a sink", ["sink"], registry=r
        )
        self.sink_lag_headroom_bytes = Gauge(
            "htapkit_sink_lag_headroom_bytes",
            "limits.slot_lag less the log that the source keeps for a sink",
            ["sink"],
            registry=r,
        )
        self.sink_up = Gauge(
            "htapkit_sink_up", "1 while changes are sent to a sink", ["sink"], registry=r
        )
        self.sinks_detached = Counter(
            "htapkit_sinks_detached",
            "Times a sink was detached for the sake of the source's disk",
            ["sink"],
            registry=r,
        )

    def begin_sink(self, sink: str) -> None:
        """As `begin`, of a sink."""
        for counter in (self.sink_rows, self.sink_commits, self.sinks_detached):
            counter.labels(sink)
        self.sink_up.labels(sink).set(0)

    def begin(self, source: str) -> None:
        """Have what is counted of a source there at zero: `rate` misses a series' first step."""
        for counter in (
            self.rows_applied,
            self.commits_applied,
            self.batches_applied,
            self.slots_let_go,
            self.stream_restarts,
            self.catalog_looks,
            self.copied_rows,
            self.tiered_rows,
            self.dropped_rows,
        ):
            counter.labels(source)
        self.apply_seconds.labels(source)
        self.slot_spilled_bytes.labels(source)
        for of in ("tables", "partitions"):
            self.copies.labels(source, of)
        for how in ("at once", "marked", "nudged"):
            self.freshness_waits.labels(source, how)

    def fail(self, error: str) -> None:
        """An error of this class."""
        self.errors.labels(error).inc()

    def text(self) -> bytes:
        """Prometheus' text format."""
        for bring in self.before_text:
            bring()
        return generate_latest(self.registry)
