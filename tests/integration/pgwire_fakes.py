"""A database for the wire's tests whose local answers come from PostgreSQL itself.

They come over a second connection, so every one of them has a reference. What the planner would
know is written into the statements: `/*hot*/` is answered locally, `/*finish*/` locally and
finished at the source, `/*broken*/` fails in the hot store, `/*half*/` fails after its first rows,
`/*fault*/` is a fault of ours.
`/*zone Asia/Tokyo*/` beside `/*hot*/`: it computes in that time zone.
Everything else is relayed, by its first word.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import pyarrow as pa

from htapkit.errors import CatalogChanged, QueryFailed, Stale
from htapkit.model import Access, Position, Route, SqlType, TableId, native_arrow
from htapkit.plan.plan import (
    Considered,
    Effect,
    ExplainRoute,
    Finish,
    LocalQuery,
    OutColumn,
    Parameter,
    Plan,
    Refuse,
    Relay,
    SessionView,
    SetOption,
    ShowOption,
)
from htapkit.plan.skeleton import skeleton
from htapkit.serve.pgwire import Database, FreshnessWanted, PgwireOptions, PgwireServer, Recent
from htapkit_postgres.origin import PostgresOrigin

_NAMES = {
    16: "bool", 17: "bytea", 20: "int8", 21: "int2", 23: "int4", 25: "text", 700: "float4",
    701: "float8", 1042: "bpchar", 1043: "varchar", 1082: "date", 1083: "time", 1114: "timestamp",
    1184: "timestamptz", 2950: "uuid", 1700: "numeric", 19: "name",
}  # fmt: skip
_READS = re.compile(r"\s*(/\*.*?\*/\s*)*(select|values|with|table|show)\b", re.IGNORECASE)
_OPTION = re.compile(
    r"\s*(set|reset)\s+(local\s+)?htapkit\.(\w+)\s*(?:(?:=|to)\s*'?([^';]*)'?)?\s*;?\s*",
    re.IGNORECASE,
)
_SHOW = re.compile(r"\s*show\s+htapkit\.(\w+)\s*;?\s*", re.IGNORECASE)
_EXPLAIN = re.compile(r"\s*explain\s*\(\s*route\s*\)\s*(.*)", re.IGNORECASE | re.DOTALL)


class FakeRead:
    """Rows of a second connection as Arrow."""

    def __init__(self, fake: FakeSource, query: LocalQuery, values: Sequence[object]) -> None:
        self._fake = fake
        self._connection = psycopg.connect(fake.dsn)
        self._half = "/*half*/" in query.sql
        self._cursor = self._connection.cursor()
        doubled = query.sql.replace("%", "%%") if values else query.sql
        text = re.sub(r"\$(\d+)", lambda found: f"%(p{found[1]})s", doubled)
        named = {f"p{i}": value for i, value in enumerate(values, 1)}
        try:
            self._cursor.execute(
                b"declare rows no scroll cursor for " + text.encode(), named or None
            )
        except (psycopg.Error, QueryFailed) as error:
            self._connection.close()
            raise QueryFailed(str(error)) from error
        self.schema = pa.schema([(column.name, _arrow(column.type)) for column in query.columns])
        self.route = query.route
        self.positions: Mapping[str, Position] = {fake.name: Position("0" * 16)}
        self.committed_at: Mapping[str, datetime | None] = {fake.name: None}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """A thousand rows at a time."""
        first = True
        while True:
            rows = self._fetch()
            if not rows:
                return
            if self._half and not first:
                raise QueryFailed("broken in the middle")
            first = False
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([_plain(row[i]) for row in rows], each.type)
                    for i, each in enumerate(self.schema)
                ],
                schema=self.schema,
            )

    def _fetch(self) -> list[tuple[Any, ...]]:
        count = 3 if self._half else 1000
        try:
            return self._cursor.execute(f"fetch {count} from rows".encode()).fetchall()
        except psycopg.Error as error:
            raise QueryFailed(str(error)) from error

    def cancel(self) -> None:
        """As DuckDB's interrupt."""
        self._connection.cancel()

    def close(self) -> None:
        """Let go."""
        self._fake.closed += 1
        self._connection.close()


def _plain(value: Any) -> Any:
    return str(value) if type(value).__name__ == "UUID" else value


def _arrow(type_: SqlType) -> pa.DataType:
    return native_arrow(type_) or pa.string()


class FakeFreshness:
    """Always fresh; remembers what was asked."""

    def __init__(self) -> None:
        self.wanted: list[FreshnessWanted] = []
        self.hold = threading.Event()
        self.hold.set()

    def wait(self, source: str, want: FreshnessWanted, deadline: float) -> None:
        """Return at once, unless held."""
        self.wanted.append(want)
        if not self.hold.wait(max(0.0, deadline - time.monotonic())):
            raise Stale(f"{source} is behind")

    def readable(self, source: str, position: Position) -> bool:
        """Every text is one."""
        return bool(source and position)


class FakeSource:
    """A planner, a reader and the rest, over one PostgreSQL database."""

    def __init__(self, dsn: str, name: str = "shop", connections_max: int = 50) -> None:
        self.dsn = dsn
        self.name = name
        self.version = 1
        self.closed = 0
        self.reads = 0
        self.looked_at = math.inf
        self.recent = Recent()
        self.before_read: Callable[[], None] | None = None
        self.freshness = FakeFreshness()
        self.origin = PostgresOrigin(
            name, dsn, connections_max, lambda: psycopg.connect(dsn, autocommit=True)
        )
        self.access: tuple[Access, ...] = ()
        self._lock = threading.Lock()
        self._columns: dict[
            tuple[str, tuple[int, ...]], tuple[tuple[OutColumn, ...], int] | None
        ] = {}

    def database(self) -> Database:
        """What the server takes."""
        return Database(
            self.origin,
            self.plan,
            self.read,
            self.freshness,
            lambda: self.version,
            looked_at=lambda: self.looked_at,
            recent=self.recent,
        )

    def read(
        self, query: LocalQuery, values: Sequence[object], version: int, _user: str
    ) -> FakeRead:
        """Open a read."""
        if self.before_read is not None:
            self.before_read()
        if version != self.version:
            raise CatalogChanged("the tables are others now")
        if "/*broken*/" in query.sql:
            raise QueryFailed("broken before the first row")
        self.reads += 1
        return FakeRead(self, query, values)

    def plan(self, text: str, view: SessionView, types: Sequence[int]) -> Plan:
        """By the marks in the text."""
        found = _OPTION.fullmatch(text)
        if found:
            value = found[4].strip() if found[4] is not None and found[1].lower() == "set" else None
            return SetOption(found[3], value, transaction=bool(found[2]))
        if found := _SHOW.fullmatch(text):
            return ShowOption(found[1])
        if found := _EXPLAIN.fullmatch(text):
            inner = self.plan(found[1], view, types)
            assert isinstance(inner, (LocalQuery, Relay, Refuse))
            return ExplainRoute(inner)
        if "/*fault*/" in text:
            raise ZeroDivisionError
        if "/*refused*/" in text:
            return Refuse("0A000", "the planner refuses this", ())
        marked = "/*hot*/" in text or "/*finish*/" in text
        if marked and text.rstrip("; \n").count(";") == 0:
            local = self._local(text, tuple(types))
            if local is not None:
                return local
        return Relay(_effect(text), (), skeleton(text) or "")

    def _local(self, text: str, types: tuple[int, ...]) -> LocalQuery | None:
        key = (text, types)
        with self._lock:
            if key not in self._columns:
                self._columns[key] = self._describe(text, types)
            known = self._columns[key]
        if known is None:
            return None
        columns, count = known
        finish = None
        if "/*finish*/" in text:
            names = ", ".join(f'"{column.name}"' for column in columns)
            arrays = ", ".join(
                f"${i}::{_NAMES[column.type.oid]}[]" for i, column in enumerate(columns, 1)
            )
            finish = Finish(f"select * from unnest({arrays}) as t ({names})", 100)
        return LocalQuery(
            Route.HOT,
            text,
            columns,
            tuple(Parameter(i + 1, SqlType("", types[i])) for i in range(count)),
            self.access,
            (self.name,),
            finish,
            (Considered(Route.HOT, chosen=True, reason="marked", cost=1.0),),
            zones=tuple(re.findall(r"/\*zone ([A-Za-z/]+)\*/", text)),
        )

    def _describe(
        self, text: str, types: tuple[int, ...]
    ) -> tuple[tuple[OutColumn, ...], int] | None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            pg = connection.pgconn
            pg.prepare(b"x", text.encode(), types)
            found = pg.describe_prepared(b"x")
            if found.status != psycopg.pq.ExecStatus.COMMAND_OK or not found.nfields:
                return None
            oids = [found.ftype(i) for i in range(found.nfields)]
            if any(oid not in _NAMES for oid in oids) or (found.nparams > len(types) and types):
                return None
            if found.nparams and (len(types) < found.nparams or 0 in types):
                return None
            columns = tuple(
                OutColumn(
                    (found.fname(i) or b"").decode(), SqlType(_NAMES[oid], oid, found.fmod(i))
                )
                for i, oid in enumerate(oids)
            )
            return columns, found.nparams


def _effect(text: str) -> Effect:
    words = text.strip().lower()
    if _READS.match(text) and "nextval" not in words and ";" not in words.rstrip("; "):
        return Effect.READ
    if re.fullmatch(r"(begin|start)(\s+(transaction|work))?\s*;?", words):
        return Effect.BEGIN
    if re.fullmatch(r"(commit|end|rollback)\s*;?", words):
        return Effect.END
    if re.match(r"(set|reset|discard)\b", words):
        return Effect.SETTINGS
    return Effect.OTHER


def table(name: str, *columns: str, source: str = "shop") -> Access:
    """Columns of a table in schema public."""
    return Access(TableId(source, "public", name), frozenset(columns))


@contextmanager
def serving(
    dsn: str, name: str = "shop", connections_max: int = 50, **options: Any
) -> Iterator[tuple[PgwireServer, FakeSource]]:
    """A port over that database, by default with `auth: trust`."""
    fake = FakeSource(dsn, name, connections_max)
    chosen = PgwireOptions(port=0, **{"trust": True, **options})
    server = PgwireServer({name: fake.database()}, chosen)
    server.start()
    try:
        yield server, fake
    finally:
        server.stop()
        fake.origin.close()


@contextmanager
def cancelling(connection: psycopg.Connection) -> Iterator[None]:
    """Cancel its statement, again and again: a cancel that comes before it runs is lost."""
    ended = threading.Event()

    def cancel() -> None:
        while not ended.wait(0.2):
            connection.cancel_safe()

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # the port may close only after the goodbye to it
