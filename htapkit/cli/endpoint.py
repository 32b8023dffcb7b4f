"""What the PostgreSQL port is given for each database.

Planner, reader and freshness over the running parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from htapkit.cli.timed import TimedRead
from htapkit.cli.views import Told, Views
from htapkit.config import Config, ImportsConfig
from htapkit.engines import ReadingEngine
from htapkit.errors import ConfigError, NotRoutable, SourceUnavailable, Stale
from htapkit.hot import HotStore, Lease
from htapkit.ingest import Freshness, Mirror
from htapkit.lake import Lake
from htapkit.lookups import LooksUp
from htapkit.metrics import Metrics
from htapkit.model import (
    ARCHIVE,
    IMPORTED,
    LAKE,
    OWN,
    OWN_COLUMNS,
    Access,
    Catalog,
    Position,
    Route,
    origin_of,
)
from htapkit.plan import Cut, ExplainRoute, LocalQuery, Plan, PlanCache, SessionView, asks_past
from htapkit.query import (
    Lookups,
    ScanLimit,
    Spark,
    beyond_values,
    run,
    run_in_parts,
    run_on_spark,
    too_large,
)
from htapkit.serve.pgwire import (
    Alone,
    Database,
    Fresh,
    FreshnessWanted,
    Opened,
    Read,
    Recent,
    Tally,
)
from htapkit.spi import Credential, Origin, OriginSession

_LOCAL = [route for route in Route if route is not Route.SOURCE]


class MirrorFreshness:
    """serve.pgwire's Freshness over the mirrors' own."""

    def __init__(self, by_source: Mapping[str, Freshness], metrics: Metrics) -> None:
        """One for each source."""
        self._by_source = by_source
        self._metrics = metrics

    def wait(self, source: str, want: FreshnessWanted, deadline: float) -> None:
        """See serve.pgwire.Freshness. `deadline` is of time.monotonic."""
        if source in {OWN, ARCHIVE} or source in IMPORTED:
            return  # nothing follows, or with its table: the newest version known here is read
        freshness = self._by_source.get(source)
        if freshness is None:
            raise SourceUnavailable(f"{source} is not followed by this server")
        how = "at once"
        for floor in want.floors:
            how = freshness.wait_for(floor, _left(deadline))
        if want.fresh is Fresh.STRONG or want.head:
            how = freshness.wait_strong(_left(deadline))
        elif want.fresh is Fresh.BOUND and want.bound is not None:
            how = freshness.wait_age(want.bound.total_seconds(), _left(deadline))
        if want.fresh is not Fresh.ANY:
            self._metrics.freshness_waits.labels(source, how).inc()

    def readable(self, source: str, position: Position) -> bool:
        """See serve.pgwire.Freshness."""
        freshness = self._by_source.get(source)
        return freshness is None or freshness.readable(position)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise Stale("the copy is not fresh enough yet; raise htapkit.wait_timeout")
    return left


class Origins:
    """One source's Origin, which also asks the others about rights on their own tables."""

    def __init__(
        self,
        name: str,
        by_source: Mapping[str, Origin],
        imports: ImportsConfig,
        catalog: Callable[[], Catalog],
    ) -> None:
        """Of the source `name`; `imports` says who may read what is no source's."""
        self._catalog = catalog
        self._own = by_source[name]
        self._by_source = by_source
        self._imports = imports

    @property
    def connections(self) -> int:
        """At the own source."""
        return self._own.connections

    def open(
        self, user: str, parameters: Mapping[str, str], credential: Credential
    ) -> OriginSession:
        """At the own source."""
        return self._own.open(user, parameters, credential)

    def verifier(self, user: str) -> str | None:
        """At the own source."""
        return self._own.verifier(user)

    def denied(self, role: str, access: Sequence[Access]) -> str:
        """Each source decides for the role of that name there.

        Also about its tables' history and archives.
        """
        asked = []
        for each in map(self._asked, access):
            table = each.table
            if table.source != LAKE:
                asked.append(Access(table, each.columns))
            elif not self._imports.may_read(role, table):
                return f"permission denied for {table}: imports.readers does not name {role}"
        for name in dict.fromkeys(a.table.source for a in asked):
            of_source = [a for a in asked if a.table.source == name]
            if why := self._by_source[name].denied(role, of_source):
                return why
        return ""

    def _asked(self, access: Access) -> Access:
        """What a role must be allowed to read at the source, to read this here."""
        table = origin_of(access.table)
        if table is None:
            return access
        columns = access.columns
        if access.table.source == ARCHIVE:
            columns -= OWN_COLUMNS
            status = self._catalog().tables.get(table)
            now = frozenset(c.name for c in status.schema.columns) if status else columns
            if columns - now:  # a column that the table no longer has: who may read all others
                columns = now
        return Access(table, columns)


class HotPlanner:
    """Plans against the catalog as it is at each call."""

    def __init__(
        self,
        store: HotStore,
        cache: PlanCache,
        lookups: Lookups,
        *,
        spark: bool,
        scan: ScanLimit | None,
    ) -> None:
        """The cache is shared by all databases; `spark`: one is configured."""
        self._store = store
        self._cache = cache
        self._lookups = lookups
        self._spark = spark
        self._scan = scan

    def __call__(self, sql: str, session: SessionView, parameter_types: Sequence[int], /) -> Plan:
        """The plan."""
        if self._spark:
            session = replace(session, spark=True, beyond=self._scan is not None)
        if self._lookups.by_source:
            session = replace(session, lookups=tuple(self._lookups.by_source))
        cuts: tuple[Cut, ...] = ()
        if asks_past(sql, session):
            found = self._store.cuts(session.source)
            cuts = tuple(Cut(each.position, each.flipped_at, each.boundaries) for each in found)
        made = self._cache.plan(sql, self._store.catalog, session, parameter_types, cuts)
        made = self._lookups.planned(made)
        if self._scan is None or not isinstance(made, ExplainRoute):
            return made
        told = made.plan
        explained = (
            self._scan.explained(told, self._store) if isinstance(told, LocalQuery) else told
        )
        return ExplainRoute(explained)


class HotReader:
    """Opens reads of local plans."""

    def __init__(
        self,
        store: HotStore,
        lake: Lake,
        views: Views,
        metrics: Metrics,
        lookups: Lookups,
        spark: Spark | None,
        scan: ScanLimit | None,
    ) -> None:
        """Of this store and lake."""
        self._lookups = lookups
        self._spark = spark
        self._scan = scan
        self._store = store
        self._lake = lake
        self._views = views
        self._metrics = metrics
        for route in _LOCAL:
            metrics.statements.labels(route.value)
            metrics.statement_seconds.labels(route.value)

    def __call__(
        self, query: LocalQuery, values: Sequence[object], version: int, user: str, /
    ) -> Opened:
        """Run it on the tables that it was planned on, or the one for a Spark in its place."""
        begun = time.monotonic()
        taken = self._scan.taken(query, self._store, values, version) if self._scan else query
        self._metrics.statements.labels(taken.route.value).inc()
        seconds = self._metrics.statement_seconds.labels(taken.route.value)
        if taken.spark is None or query.spark is not None:
            read = self._open(taken, values, version, user)
        else:
            read = self._open_beyond(taken, beyond_values(query, taken, values), version, user)
        return TimedRead(read, taken.route, lambda: seconds.observe(time.monotonic() - begun))

    def _open_beyond(
        self, taken: LocalQuery, values: Sequence[object], version: int, user: str
    ) -> Read:
        """Raises ScanTooLarge where the lake alone does not have all rows."""
        try:
            return self._open(taken, values, version, user)
        except NotRoutable as why:
            raise too_large(taken.considered[1].reason, str(why)) from why

    def _open(self, query: LocalQuery, values: Sequence[object], version: int, user: str) -> Read:
        if query.spark is not None:
            assert self._spark is not None, "planned only where there is one"
            return run_on_spark(query, self._store, values, version, self._spark)
        if query.lookup is not None:
            return self._lookups.run(query, self._store, values, version)
        rows = {view: self._views.rows(view, user) for view in query.views}
        files = self._lake.files
        return run(query, self._store, values, catalog_version=version, files=files, rows=rows)

    def in_parts(
        self, query: LocalQuery, values: Sequence[object], version: int, parts_max: int, /
    ) -> Lease | None:
        """See serve.pgwire.Database.in_parts."""
        if self._scan and self._scan.taken(query, self._store, values, version).spark is not None:
            return None
        lease = run_in_parts(
            query,
            self._store,
            values,
            catalog_version=version,
            files=self._lake.files,
            parts_max=parts_max,
        )
        if lease is not None:
            self._metrics.statements.labels(query.route.value).inc()
        return lease


def trusted(config: Config) -> bool:
    """Whether nobody who asks by SQL, at whatever port, is asked who they are."""
    ports = [config.servers.pgwire, *filter(None, [config.servers.flight])]
    return all(port.auth == "trust" for port in ports)


def make_databases(
    mirrors: Mapping[str, Mirror],
    store: HotStore,
    lake: Lake,
    metrics: Metrics,
    told: Told,
    config: Config,
    tally: Tally,
    engine: ReadingEngine | None = None,
) -> Mapping[str, Database]:
    """One database for each source; `engine` is a Spark. Raises ConfigError."""
    spark = None
    if engine is not None:
        spark = Spark(engine, lake.files, lake.identifier, config.limits.statement_time)
    most = config.limits.scan
    scan = ScanLimit(most, lake.files) if most is not None else None
    answering = {n: m.source for n, m in mirrors.items() if isinstance(m.source, LooksUp)}
    limits = config.limits
    lookups = Lookups(answering, limits.batch_bytes, limits.statement_time)
    trust = trusted(config)
    cache = PlanCache()
    freshness = MirrorFreshness({n: m.freshness for n, m in mirrors.items()}, metrics)
    origins: dict[str, Origin] = {}
    for name, mirror in mirrors.items():
        readers = config.sources[name].readers
        if readers and mirror.source.origin is not None:
            raise ConfigError(f"sources.{name}.readers: the source has users and rights of its own")
        origins[name] = mirror.source.origin or Alone(name, trust, readers)
    databases = {}
    for name, mirror in mirrors.items():
        recent = Recent()
        views = Views(mirror, store, recent, told)
        reader = HotReader(store, lake, views, metrics, lookups, spark, scan)
        databases[name] = Database(
            origin=Origins(name, origins, told.imports, lambda: store.catalog),
            alone=mirror.source.origin is None,
            planner=HotPlanner(store, cache, lookups, spark=spark is not None, scan=scan),
            reader=reader,
            in_parts=reader.in_parts,
            freshness=freshness,
            catalog_version=lambda: store.catalog.version,
            lag_seconds=mirror.freshness.age_seconds,
            looked_at=mirror.looked_at,
            look=mirror.look_soon,
            recent=recent,
            tally=tally,
        )
    return databases
