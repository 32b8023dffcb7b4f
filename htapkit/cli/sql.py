"""`htapkit sql` and `htapkit explain`: a small client of our own port."""

from __future__ import annotations

import json
import os

import click
import psycopg
from rich.console import Console
from rich.table import Table

from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.config import Config


def run_statement(
    config: Config, statement: str, source: str | None, user: str | None, *, as_json: bool
) -> None:
    """Run, print the rows, and say which route answered."""
    host, _, port = config.servers.pgwire.listen.rpartition(":")
    database = source or next(iter(config.sources))
    try:
        with psycopg.connect(
            host=host.strip("[]"),
            port=int(port),
            dbname=database,
            user=user or os.environ.get("PGUSER") or None,
            autocommit=True,
            connect_timeout=10,
            prepare_threshold=None,
        ) as connection:
            _print(connection, statement, as_json=as_json)
    except psycopg.OperationalError as error:
        raise ServerUnreachable(f"{config.servers.pgwire.listen}: {error}".strip()) from error
    except psycopg.Error as error:
        raise ServerRefused(f"{error.sqlstate}: {error}".strip()) from error


def _print(connection: psycopg.Connection, statement: str, *, as_json: bool) -> None:
    cursor = connection.cursor()
    cursor.execute(statement.encode())
    result = cursor.pgresult
    if cursor.description is None or result is None:
        click.echo(cursor.statusmessage or "")
        return
    names = [column.name for column in cursor.description]
    # Values exactly as the server prints them, whatever their type.
    raw = [[result.get_value(r, c) for c in range(len(names))] for r in range(result.ntuples)]
    rows = [[None if value is None else value.decode() for value in row] for row in raw]
    route = connection.execute("SHOW htapkit.last_route").fetchone()
    if as_json:
        found = [dict(zip(names, row, strict=True)) for row in rows]
        click.echo(json.dumps({"route": route[0] if route else "", "rows": found}))
        return
    table = Table(*names)
    for row in rows:
        table.add_row(*["" if value is None else str(value) for value in row])
    console = Console()
    console.print(table)
    count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
    # EXPLAIN and SET run nowhere.
    where = f", route {route[0]}" if route and route[0] else ""
    console.print(f"{count}{where}", highlight=False)
