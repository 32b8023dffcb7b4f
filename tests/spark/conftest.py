"""A Spark in local mode whose catalog `htapkit` is the lake of a running htapkit."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from htapkit.testing.guard import child_environment
from htapkit.testing.postgres import PostgresServer, free_port
from tests.fix_mirror import Mirrored, fresh_database, mirrored
from tests.spark.jars import JARS, missing

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

TABLE = {"partition": "day", "hot": "10 days", "time_column": "at"}
TIERED = (
    *(
        "things",
        "times",
        "compacted",
        "expired",
        "kept",
        "changed",
        "raced",
        "grown",
        "torn",
        "told",
        "joined",
    ),
    *("read", "accounts"),
)
_CATALOG = "spark.sql.catalog.htapkit"


@dataclass(frozen=True, slots=True)
class Spark:
    """A session, and a few ways to ask it."""

    session: SparkSession

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a statement gives."""
        return [tuple(row) for row in self.session.sql(sql).collect()]

    def value(self, sql: str) -> Any:
        """The one value of a statement."""
        ((value,),) = self.rows(sql)
        return value

    def table(self, sql: str) -> pa.Table:
        """What a statement gives, as Arrow."""
        return self.session.sql(sql).toArrow()


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    """The sockets that pyspark leaves to the collector are found here, not in later tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture(scope="session")
def spark_environment() -> Iterator[None]:
    """Spark's Python workers are this Python, and find htapkit where we did."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    wanted = {
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYTHONPATH": child_environment()["PYTHONPATH"],
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def flight_port() -> int:
    """Of the htapkit."""
    return free_port()


@pytest.fixture(scope="session")
def history(
    pg18: PostgresServer,
    flight_port: int,
    spark_environment: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mirrored]:
    """A real htapkit on a real PostgreSQL. Nothing tiers but what a test asks for."""
    configuration: dict[str, Any] = {
        "tables": {f"shop.public.{name}": TABLE for name in TIERED},
        "lake": {"interval": "1 day"},
        "limits": {"reads": 64},
        "servers": {"flight": {"listen": f"127.0.0.1:{flight_port}", "auth": "trust"}},
    }
    folder = tmp_path_factory.mktemp("spark-history")
    own = {"master": "local[1]", **settings(folder / "data", folder / "engine")}
    configuration["engines"] = {"spark": own}
    with (
        fresh_database(pg18) as database,
        mirrored(database, folder, configuration=configuration) as one,
    ):
        yield one


def settings(data: Path, folder: Path) -> Mapping[str, str]:
    """Of a session on the lake in `data`; the catalog's part stands in docs/spark.md, too."""
    return {
        "spark.jars": ",".join(str(jar.path) for jar in JARS),
        "spark.sql.extensions": (
            "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
        ),
        _CATALOG: "org.apache.iceberg.spark.SparkCatalog",
        f"{_CATALOG}.catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        f"{_CATALOG}.uri": f"jdbc:sqlite:{data / 'catalog.db'}?busy_timeout=30000",
        f"{_CATALOG}.jdbc.schema-version": "V1",
        f"{_CATALOG}.warehouse": f"file://{data / 'warehouse'}",
        # Others change the tables: what Spark reads is to be what is there.
        f"{_CATALOG}.cache-enabled": "false",
        "spark.sql.python.filterPushdown.enabled": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.memory": "1g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }


@pytest.fixture(scope="session")
def spark(history: Mirrored, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    """One session for all tests; its Java ends with them."""
    from pyspark import SparkContext  # noqa: PLC0415 - only where it is installed
    from pyspark.sql import SparkSession  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("spark")
    builder = SparkSession.builder.master("local[2]").appName("htapkit tests")
    for key, value in settings(history.stack.folder / "data", folder).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("FATAL")  # errors are expected, and raised here
    try:
        yield Spark(session)
    finally:
        gateway: Any = SparkContext._gateway
        session.stop()
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait(60)
        SparkContext._gateway = SparkContext._jvm = None


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads of htapkit's, as Spark's DataFrames."""

    session: SparkSession
    url: str
    options: Mapping[str, str] = field(default_factory=dict)

    def table(self, name: str, *, schema: str = "", **options: str) -> DataFrame:
        """A table."""
        return self._load({"table": name, **options}, schema)

    def query(self, sql: str, **options: str) -> DataFrame:
        """A statement."""
        return self._load({"query": sql, **options}, "")

    def _load(self, options: Mapping[str, str], schema: str) -> DataFrame:
        asked = {"url": self.url, "freshness": "strong", **self.options, **options}
        reader = self.session.read.format("htapkit").options(**asked)
        return reader.schema(schema).load() if schema else reader.load()


@pytest.fixture(scope="session")
def htapkit(spark: Spark, flight_port: int) -> Reads:
    """The data source, registered."""
    from htapkit_spark import HtapkitDataSource  # noqa: PLC0415 - only where pyspark is

    spark.session.dataSource.register(HtapkitDataSource)
    return Reads(spark.session, f"grpc://127.0.0.1:{flight_port}")


def tier(mirror: Mirrored, *tables: str) -> int:
    """Move ranges and fold patches now; how many rows left the hot store."""
    with mirror.stack.client() as client:
        job = client.tier([f"shop.public.{table}" for table in tables])
        result = client.wait(job["id"], timeout_seconds=120)
    return sum(row["rows"] for row in result["tables"])
