"""What the PostgreSQL port is given for each database.

Planner, reader and freshness over the running parts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from htapkit.cli.views import Told, Views
from htapkit.config import Config, ImportsConfig
from htapkit.errors import ConfigError, SourceUnavailable, Stale
from htapkit.hot import HotStore, Lease, Read
from htapkit.ingest import Freshness, Mirror
from htapkit.lake import Lake
from htapkit.metrics import Metrics
from htapkit.model import IMPORTED, LAKE, OWN, Access, Position, origin_of
from htapkit.plan import Cut, LocalQuery, Plan, PlanCache, SessionView, asks_past
from htapkit.query import run, run_in_parts
from htapkit.serve.pgwire import Alone, Database, Fresh, FreshnessWanted, Recent
from htapkit.spi import Credential, Origin, OriginSession


class MirrorFreshness:
    """serve.pgwire's Freshness over the mirrors' own."""

    def __init__(self, by_source: Mapping[str, Freshness], metrics: Metrics) -> None:
        """One for each source."""
        self._by_source = by_source
        self._metrics = metrics

    def wait(self, source: str, want: FreshnessWanted, deadline: float) -> None:
        """See serve.pgwire.Freshness. `deadline` is of time.monotonic."""
        if source == OWN or source in IMPORTED:
            return  # nothing follows: the newest version known here is read
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

    def __init__(self, name: str, by_source: Mapping[str, Origin], imports: ImportsConfig) -> None:
        """Of the source `name`; `imports` says who may read what is no source's."""
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
        """Each source decides for the role of that name there, also about its tables' history."""
        asked = []
        for each in access:
            table = origin_of(each.table) or each.table
            if table.source != LAKE:
                asked.append(Access(table, each.columns))
            elif not self._imports.may_read(role, table):
                return f"permission denied for {table}: imports.readers does not name {role}"
        for name in dict.fromkeys(a.table.source for a in asked):
            of_source = [a for a in asked if a.table.source == name]
            if why := self._by_source[name].denied(role, of_source):
                return why
        return ""


class HotPlanner:
    """Plans against the catalog as it is at each call."""

    def __init__(self, store: HotStore, cache: PlanCache) -> None:
        """The cache is shared by all databases."""
        self._store = store
        self._cache = cache

    def __call__(self, sql: str, session: SessionView, parameter_types: Sequence[int], /) -> Plan:
        """The plan."""
        cuts: tuple[Cut, ...] = ()
        if asks_past(sql, session):
            found = self._store.cuts(session.source)
            cuts = tuple(Cut(each.position, each.flipped_at, each.boundaries) for each in found)
        return self._cache.plan(sql, self._store.catalog, session, parameter_types, cuts)


class HotReader:
    """Opens reads of local plans."""

    def __init__(self, store: HotStore, lake: Lake, views: Views, metrics: Metrics) -> None:
        """Of this store and lake."""
        self._store = store
        self._lake = lake
        self._views = views
        self._metrics = metrics

    def __call__(
        self, query: LocalQuery, values: Sequence[object], version: int, user: str, /
    ) -> Read:
        """Run it on the tables that it was planned on."""
        self._metrics.statements.labels(query.route.value).inc()
        rows = {view: self._views.rows(view, user) for view in query.views}
        files = self._lake.files
        return run(query, self._store, values, catalog_version=version, files=files, rows=rows)

    def in_parts(
        self, query: LocalQuery, values: Sequence[object], version: int, parts_max: int, /
    ) -> Lease | None:
        """See serve.pgwire.Database.in_parts."""
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
) -> Mapping[str, Database]:
    """One database for each source. Raises ConfigError."""
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
        reader = HotReader(store, lake, Views(mirror, store, recent, told), metrics)
        databases[name] = Database(
            origin=Origins(name, origins, told.imports),
            alone=mirror.source.origin is None,
            planner=HotPlanner(store, cache),
            reader=reader,
            in_parts=reader.in_parts,
            freshness=freshness,
            catalog_version=lambda: store.catalog.version,
            lag_seconds=mirror.freshness.age_seconds,
            looked_at=mirror.looked_at,
            look=mirror.look_soon,
            recent=recent,
        )
    return databases
