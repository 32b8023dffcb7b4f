"""`htapkit serve`.

Composes store, mirrors, planner and ports into one process, and takes it down again.
"""

from __future__ import annotations

import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import structlog

from htapkit import failpoints
from htapkit.backup import refuse_half_restored
from htapkit.cli.api import Api
from htapkit.cli.endpoint import make_databases
from htapkit.cli.exports import Exports
from htapkit.cli.feeds import Feeds
from htapkit.cli.history import History, lake_settings
from htapkit.cli.ports import address, make_flight, measure_ports, pgwire_options
from htapkit.cli.reload import Reload
from htapkit.cli.views import Told
from htapkit.config import Config, TableConfig, archived
from htapkit.engines import load_reader
from htapkit.errors import ConfigError, SourceError
from htapkit.feed import CopyReader
from htapkit.hot import HotLimits, HotStore
from htapkit.ingest import Mirror, MirrorOptions
from htapkit.lake import Lake
from htapkit.metrics import Metrics
from htapkit.query import whole_rows
from htapkit.serve.http import HttpServer
from htapkit.serve.pgwire import PgwireServer, Tally
from htapkit.spi import load_source

_log = structlog.get_logger("htapkit.run")
_SWITCH_SECONDS = 0.0005
_LOOK_UP_SECONDS = 1.0


class Server:
    """One running htapkit.

    `start` returns once both ports listen; mirrors go on in the background.
    """

    def __init__(self, config: Config, read: Callable[[], Config] | None = None) -> None:
        """Opens the store (StoreLocked: another process has it); nothing else is started.

        `read` gives the configuration as it is in its file now; without it there is no file.
        """
        self._config = config
        self._metrics = Metrics()
        sources = {
            name: load_source(source.connector, config.source_options(name))
            for name, source in config.sources.items()
        }
        refuse_half_restored(config.data_dir)
        config.data_dir.mkdir(parents=True, exist_ok=True)
        settings = lake_settings(config)
        lake = self._lake = Lake(settings)
        self._store = HotStore(
            config.data_dir / "hot.duckdb",
            _hot_limits(config),
            warehouse=settings.warehouse,
            lake=lake,
        )
        history = self._history = History(config, self._store, lake, self._metrics)
        options = _mirror_options(config)
        self._mirrors = {
            name: Mirror(name, source, self._store, self._metrics, options)
            for name, source in sources.items()
        }
        self._feeds = Feeds(config, sources, self._metrics, self._copied)
        jobs, alone = self._history.jobs, len(sources) == 1
        told = Told(config.limits, jobs, lambda: self._pgwire.clients, config.imports, alone)
        own = config.engines.get("spark")
        self._spark = load_reader("spark", own) if own is not None else None
        tally = Tally(self._metrics.fail)
        databases = make_databases(
            self._mirrors, self._store, lake, self._metrics, told, config, tally, self._spark
        )
        self._pgwire = PgwireServer(databases, pgwire_options(config), tally)
        self._flight = make_flight(config, databases, tally)
        host, port = address(config.servers.http.listen)
        ports = {"pgwire_port": lambda: self._pgwire.port}
        if self._flight is not None:
            ports["flight_port"] = lambda: self.flight_port
        self._exports = Exports(config, databases, lake, history.jobs, history.tiering)
        self._store.archives.keep(archived(config.tables))
        self.reload = Reload(config, read or (lambda: config), self._take)
        api = Api(
            self._mirrors,
            self._store,
            self._metrics,
            ports,
            history,
            self._exports,
            self._feeds,
            self.reload,
        )
        self._http = HttpServer(api, host, port, config.servers.http.token, self._metrics.fail)
        self._housekeeping = threading.Thread(target=self._keep_house, name="house", daemon=True)
        self._stopping = threading.Event()

    def _take(self, tables: Mapping[str, TableConfig]) -> None:
        """Other rules for the tables, from now on."""
        self._history.tiering.take(tables)
        self._store.archives.keep(archived(tables))

    def _copied(self, source: str, sink: str) -> CopyReader:
        """A sink's place in the journal of a copy."""
        return CopyReader(self._store, source, sink, partial(whole_rows, self._lake.files))

    @property
    def pgwire_port(self) -> int:
        """The port that is really used."""
        return self._pgwire.port

    @property
    def flight_port(self) -> int:
        """The port that is really used; 0 where there is none."""
        return self._flight.port if self._flight is not None else 0

    @property
    def http_port(self) -> int:
        """The port that is really used."""
        return self._http.port

    def start(self) -> None:
        """Listen and mirror. Raises ConfigError when a port cannot be had."""
        measure_ports(self._metrics, self._pgwire.tally, self._pgwire, self._flight)
        self._pgwire.start()
        if self._flight is not None:
            self._flight.start()
        self._http.start()
        _log.info("serving", http=self.http_port, pgwire=self.pgwire_port, flight=self.flight_port)
        for mirror in self._mirrors.values():
            mirror.start()
        self._feeds.keep(self._store)
        self._feeds.start()
        self._history.start()
        self._housekeeping.start()

    def stop(self) -> None:
        """Take everything down; what is committed stays."""
        self._stopping.set()
        self._pgwire.stop()
        if self._flight is not None:
            self._flight.stop()
        self._http.stop()
        self._exports.close()
        self._history.stop()
        self._feeds.stop()
        for mirror in self._mirrors.values():
            mirror.stop()
        if self._housekeeping.is_alive():
            self._housekeeping.join(10)
        if self._spark is not None:
            self._spark.close()
        self._store.close()
        self._lake.close()
        _log.info("stopped")

    def _ask(self, step: Callable[[], None]) -> None:
        try:
            step()
        except SourceError as error:
            # The follower says the same, and tries again; here it is only counted.
            self._metrics.errors.labels(type(error).__name__).inc()

    def _note_sizes(self) -> None:
        for name, size in self._store.sizes().items():
            part, is_bytes, _ = name.partition("_bytes")
            if is_bytes:  # the others count
                self._metrics.store_bytes.labels(part).set(size)

    def _keep_house(self) -> None:
        asked = [(m.look_at_retained, m.measure) for m in self._mirrors.values()]
        steps: list[Callable[[], object]] = [partial(self._ask, s) for each in asked for s in each]
        steps += [partial(self._ask, measure) for measure in self._feeds.measures()]
        steps += [self._store.maintain, self._note_sizes, self._history.imports.refresh]
        while not self._stopping.wait(1.0):
            # Each by itself: a store that has failed must not keep us from watching the sources.
            for step in steps:
                self._carefully(step)

    def _carefully(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the top of a thread: it must go on
            self._metrics.errors.labels(type(error).__name__).inc()
            _log.exception("housekeeping failed")


def _hot_limits(config: Config) -> HotLimits:
    limits = config.limits
    return HotLimits(
        memory_bytes=limits.memory,
        disk_bytes=limits.disk,
        staged_bytes=limits.staged,
        disk_free_bytes=limits.disk_free,
        reads=limits.reads,
        read_seconds=limits.statement_time,
        lease_seconds=limits.lease_time,
        threads=limits.threads,
    )


def _mirror_options(config: Config) -> MirrorOptions:
    limits = config.limits
    return MirrorOptions(
        config.watch_interval,
        limits.snapshot_readers,
        limits.slot_lag,
        limits.slot_lag_time,
        limits.slot_lag_action == "drop",
        limits.range_rows,
    )


def _reload(reload: Reload) -> None:
    """For a signal: nobody waits for the answer."""
    try:
        _log.info("configuration read again", **reload())
    except ConfigError as error:
        _log.error("the configuration stays as it was", why=str(error))


def _wait(ended: queue.SimpleQueue[None]) -> None:
    """Until something is there.

    Looks up now and then: a signal that came while the process stood still (paused, Ctrl-Z) is
    taken by any thread, which does not wake this one, and only this one runs handlers.
    """
    while True:
        with suppress(queue.Empty):
            return ended.get(timeout=_LOOK_UP_SECONDS)


def run_until_signal(config: Config, read: Callable[[], Config]) -> None:
    """Serve until SIGINT or SIGTERM; then stop cleanly. SIGHUP has the configuration read again."""
    # The applier must get the interpreter back soon after a query thread has it.
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = Server(config, read)
    # Not an Event: a handler that interrupts the one who waits for it may not take its lock.
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    signal.signal(signal.SIGHUP, lambda *_: _reload(server.reload))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.put(None))
    failpoints.arm_from_environment()
    try:
        server.start()
        pgwire = (
            f"postgresql://{config.servers.pgwire.listen.rpartition(':')[0]}:{server.pgwire_port}"
        )
        for name in config.sources:
            print(f"htapkit: psql {pgwire}/{name}", flush=True)  # noqa: T201 - the one line to copy
        _wait(ended)
    finally:
        server.stop()
