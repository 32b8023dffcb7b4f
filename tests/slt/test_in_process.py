"""The hot queries of every .slt file without the wire: planner, store and text encoding alone.

What fails here and through the port is in one of these; what fails only there is in the wire.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from htapkit.hot import HotLimits, HotStore
from htapkit.ingest import Mirror, MirrorOptions
from htapkit.metrics import Metrics
from htapkit.plan import LocalQuery, SessionView, plan
from htapkit.query import run
from htapkit.serve.pgwire.rows import array_literal, text_values
from htapkit.spi import SourceOptions, load_source
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.slt import Refused, Row, WireEngine, check_all, parse
from tests.in_order import in_order

pytestmark = pytest.mark.integration

FILES = sorted(Path(__file__).parent.glob("*.slt"))
COPY_SECONDS_MAX = 180.0


class InProcess:
    """Plans and runs each query in this process; PostgreSQL finishes where the plan says so."""

    name = "in-process"

    def __init__(self, store: HotStore, database: Database, schema: str) -> None:
        """Names without a schema are looked for in `schema`."""
        self._store = store
        self._view = SessionView("shop", (schema,), zones=True)
        self._source = psycopg.connect(database.dsn, autocommit=True)
        self._source.execute("select set_config('search_path', %s, false)", [f'"{schema}"'])

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()

    def run(self, sql: str) -> Sequence[Row]:
        """The rows; Refused where the plan is not local."""
        found = plan(sql, self._store.catalog, self._view)
        if not isinstance(found, LocalQuery):
            raise Refused(f"not local: {found}")
        read = run(found, self._store)
        try:
            table = pa.Table.from_batches(list(read.batches()), read.schema)
        finally:
            read.close()
        table = in_order(found, table, self._source)
        columns = [
            (table.column(number).combine_chunks(), column.type.oid)
            for number, column in enumerate(found.columns)
        ]
        if found.finish is not None:
            literals = [array_literal(array, oid) for array, oid in columns]
            result = self._source.pgconn.exec_params(found.finish.sql.encode(), literals)
            return [
                tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
                for row in range(result.ntuples)
            ]
        texts = [text_values(array, oid, UTC).to_pylist() for array, oid in columns]
        return list(zip(*texts, strict=True))

    def last_route(self) -> str:
        """Nothing else runs here."""
        return "hot"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


@pytest.fixture(scope="module")
def copied(
    pg18: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[HotStore, Database]]:
    """The tables of all files, copied by a mirror in this process."""
    database = Database(pg18, "slt_in_process")
    for path in FILES:
        with WireEngine(database.dsn) as engine:
            engine.run(f'create schema "{path.stem}"')
            engine.run(f'set search_path to "{path.stem}"')
            assert not check_all(parse(path.read_text(encoding="utf-8"), "").setup, engine)
    tables = [f"{path.stem}.*" for path in FILES]
    settings: dict[str, object] = {"dsn": database.dsn, "tables": tables}
    options = SourceOptions("shop", settings, 20, 10**9, 50_000, 2**25, 2, None)
    store = HotStore(tmp_path_factory.mktemp("hot") / "hot.duckdb", HotLimits())
    source = load_source("postgres", options)
    mirror = Mirror("shop", source, store, Metrics(), MirrorOptions())
    mirror.start()
    try:
        end = time.monotonic() + COPY_SECONDS_MAX
        while not (mirror.report().tables and mirror.report().ready):
            assert time.monotonic() < end, mirror.report()
            time.sleep(0.02)
        yield store, database
    finally:
        mirror.stop()
        source.detach()
        store.close()
        database.drop()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file(path: Path, copied: tuple[HotStore, Database]) -> None:
    """Every query that must be hot gives PostgreSQL's answer."""
    store, database = copied
    engine = InProcess(store, database, path.stem)
    try:
        script = parse(path.read_text(encoding="utf-8"), engine.name)
        hot = [record for record in script.records if record.route == "hot"]
        failures = check_all(hot, engine)
    finally:
        engine.close()
    assert not failures, f"{len(failures)} differ:\n\n" + "\n\n".join(failures)
