"""`verify` of a running server is a job of its own: no limit on statements is about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from htapkit.testing.postgres import PostgresServer
from tests.fix_mirror import fresh_database, mirrored

pytestmark = pytest.mark.integration
TABLES = [f"t{number}" for number in range(6)]


def test_more_tables_than_statements_may_run_and_longer_than_they_may(
    pg18: PostgresServer, tmp_path: Path
) -> None:
    """All are compared."""
    limits = {"reads": 2, "statement_time": "1 ms"}
    with fresh_database(pg18) as database:
        for table in TABLES:
            database.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v text)")
            database.execute(f"INSERT INTO {table} SELECT g, 'v' FROM generate_series(1, 5000) g")
        with mirrored(database, tmp_path, configuration={"limits": limits}) as mirror:
            mirror.follows(*TABLES)
            with mirror.stack.client() as client:
                found = client.verify([])
    assert found["equal"], found
    counts = [(row["table"], row["rows_source"], row["rows_copy"]) for row in found["tables"]]
    assert counts == [(f"shop.public.{table}", 5000, 5000) for table in TABLES]
