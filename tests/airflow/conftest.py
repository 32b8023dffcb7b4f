"""Airflow for these tests: imported once, into a home of its own, leaving logging as it was."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator

import pytest
import structlog

from htapkit.testing.postgres import PostgresServer, free_port
from tests.airflow.fake_api import FakeApi
from tests.airflow.home import AirflowHome
from tests.fix_mirror import Mirrored, fresh_database, mirrored

_home = tempfile.TemporaryDirectory(prefix="htapkit-airflow-")

TABLES = {
    "shop.public.orders": {"time_column": "created_at", "hot": "7 days"},
    "shop.public.events": {"time_column": "at"},  # moved only when it is named
}


def _import_airflow() -> None:
    """Importing Airflow makes files in its home and configures logging for the whole process."""
    os.environ.setdefault("AIRFLOW_HOME", _home.name)
    kept = structlog.get_config()
    handlers, level = logging.root.handlers[:], logging.root.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("airflow")
    structlog.configure(**kept)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


if importlib.util.find_spec("airflow") is not None:
    _import_airflow()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """An API that answers what the test says."""
    with FakeApi() as fake:
        yield fake


@pytest.fixture
def connection(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a connection to `api`."""
    monkeypatch.setenv("AIRFLOW_CONN_FAKE", f"htapkit://:secret@127.0.0.1:{api.port}")
    return "fake"


@pytest.fixture(scope="module")
def shop(pg18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """A real htapkit on a real PostgreSQL, with the same API port after each start."""
    servers = {"http": {"listen": f"127.0.0.1:{free_port()}"}}
    configuration = {
        "servers": servers,
        "tables": TABLES,
        "lake": {"interval": "1 day"},
        "exports": {"folder": "out"},
    }
    folder = tmp_path_factory.mktemp("shop")
    with (
        fresh_database(pg18) as database,
        mirrored(database, folder, configuration=configuration, start=False) as one,
    ):
        one.run(
            "CREATE TABLE orders (id int PRIMARY KEY, created_at timestamptz NOT NULL, total int)",
            "CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL)",
            "CREATE TABLE customers (id int PRIMARY KEY, name text)",
            "INSERT INTO customers SELECT g, 'c' || g FROM generate_series(1, 100) g",
        )
        one.stack.start()
        one.stack.wait_ready()
        yield one


@pytest.fixture(scope="module")
def airflow(shop: Mirrored, tmp_path_factory: pytest.TempPathFactory) -> AirflowHome:
    """An Airflow with a database, whose connection htapkit_default is `shop`."""
    home = AirflowHome(tmp_path_factory.mktemp("airflow"), shop.stack.http_port)
    home.migrate()
    return home
