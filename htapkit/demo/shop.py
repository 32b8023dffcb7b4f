"""Makes the shop: its tables, about a million rows, and what keeps them consistent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from htapkit.sqlfiles import sql
from htapkit.testing.postgres import Database

ROWS = ("demo/rows_sales", "demo/rows_events")


def build_shop(database: Database, scale: float) -> None:
    """Fill an empty database. `scale` 1 is about a million rows."""
    database.execute(sql("demo/schema"))
    with ThreadPoolExecutor(len(ROWS)) as pool:
        # The two files share no table.
        done = [
            pool.submit(_run, database, sql(name).replace("{scale}", str(scale))) for name in ROWS
        ]
    for each in done:
        each.result()
    with database.connect() as connection:
        # One by one: VACUUM refuses to run in the transaction that several at once would be.
        for statement in sql("demo/keys").split(";"):
            if statement.strip():
                connection.execute(statement)


def _run(database: Database, text: str) -> None:
    database.execute(text)
