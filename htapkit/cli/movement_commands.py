"""The commands that move data in and out: each queues a job at the running server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from htapkit.cli.lake_commands import NO_WAIT, outcome
from htapkit.cli.options import CONFIG, JSON, client_of, full_name
from htapkit.config import load_config

_SUFFIXES = {".parquet": "parquet", ".csv": "csv"}


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[STATEMENT] PATH")
@click.option("--table", help="Export this table, instead of a statement.")
@click.option("--from", "begin", help="With --table: rows of this time and later.")
@click.option("--to", "end", help="With --table: rows before this time.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["parquet", "csv", "iceberg"]),
    help="Default: by the ending of PATH.",
)
@click.option("--source", help="The database of the statement; default: the first source.")
@click.option(
    "--parts",
    type=click.Choice(["hour", "day", "month"]),
    help="With --table, --from and --to: a file for each, in the folder PATH; goes on if repeated.",
)
@NO_WAIT
@CONFIG
@JSON
def export(
    words: tuple[str, ...],
    table: str | None,
    begin: str | None,
    end: str | None,
    format_: str | None,
    source: str | None,
    parts: str | None,
    no_wait: bool,
    config_path: Path,
    as_json: bool,
) -> None:
    """Write the rows of STATEMENT to PATH below the server's exports.folder, as a whole."""
    config = load_config(config_path)
    *statement, path = words
    if len(statement) != (0 if table else 1):
        raise click.UsageError("give a statement and a path, or --table and a path")
    chosen = format_ or ("parquet" if parts else None) or _SUFFIXES.get(Path(path).suffix)
    if chosen is None:
        raise click.UsageError(f"'{path}' ends in neither .parquet nor .csv; give --format")
    name = full_name(config, table) if table else None
    with client_of(config) as client:
        if parts:
            if name is None or begin is None or end is None:
                raise click.UsageError("--parts goes with --table, --from and --to")
            job = client.export_parts(path, parts, table=name, begin=begin, end=end, format=chosen)
        else:
            sql = statement[0] if statement else None
            job = client.export(
                path, sql=sql, table=name, begin=begin, end=end, format=chosen, source=source
            )
        result = outcome(client, job, no_wait=no_wait, as_json=as_json)
    if result is None:
        return
    if parts:
        there = f", {result['kept']:,} of them there already" if result["kept"] else ""
        click.echo(f"{path}: {result['rows']:,} rows in {result['parts']:,} files{there}")
        return
    if result["started_anew"]:
        click.echo("an export to this file was cut off before; this one began anew")
    place = f"exports.{path}" if chosen == "iceberg" else path
    click.echo(f"{place}: {result['rows']:,} rows, {result['route']} {result['position']}".rstrip())


@click.command()
@click.argument("table")
@click.option("--from", "begin", help="Rows of this time and later; default: all.")
@click.option("--to", "end", help="Rows before this time; default: all.")
@click.option("--parquet", metavar="PATH", help="History from files below imports.folder.")
@NO_WAIT
@CONFIG
@JSON
def backfill(
    table: str,
    begin: str | None,
    end: str | None,
    parquet: str | None,
    no_wait: bool,
    config_path: Path,
    as_json: bool,
) -> None:
    """Read a time range of TABLE again from the source, and correct the copy by it.

    With --parquet: bring rows that the source does not have, as history.<schema>.<TABLE>.
    """
    config = load_config(config_path)
    with client_of(config) as client:
        name = full_name(config, table)
        job = client.backfill(name, begin=begin, end=end, parquet=parquet)
        result = outcome(client, job, no_wait=no_wait, as_json=as_json)
    if result is None:
        return
    if parquet is not None:
        _print_brought(result)
        return
    click.echo(
        f"{result['table']}: {result['rows']:,} rows compared at {result['position']}; "
        f"{result['missing']:,} were missing, {result['different']:,} different, "
        f"{result['surplus']:,} too many"
    )


def _print_brought(result: Mapping[str, Any]) -> None:
    click.echo(
        f"{result['table']}: {result['added']:,} rows added, {result['replaced']:,} replaced, "
        f"{result['unchanged']:,} there already; {result['at_source']:,} left out because the "
        f"source has them, {result['outside']:,} outside the range, {result['rejected']:,} rejected"
    )
    for reason in result["reasons"]:
        click.echo(f"  {reason}")
    if result["rejects"]:
        click.echo(f"all of them: {result['rejects']}")


@click.command("import")
@click.argument("table")
@click.option("--as", "as_name", help="[SCHEMA.]NAME to call it; default: as the catalog does.")
@click.option("--drop", is_flag=True, help="Read TABLE no more; nothing of it is removed.")
@CONFIG
@JSON
def import_(table: str, as_name: str | None, drop: bool, config_path: Path, as_json: bool) -> None:
    """Read the Iceberg table TABLE (namespace.table) of the lake's catalog, as lake.TABLE."""
    if drop and as_name:
        raise click.UsageError("--drop takes no other name")
    with client_of(load_config(config_path)) as client:
        found = client.drop_import(table) if drop else client.import_table(table, as_name)
    if as_json:
        click.echo(json.dumps(found))
    elif drop:
        click.echo(f"{found['table']}: no longer imported")
    else:
        click.echo(f"{found['table']}: {found['rows']:,} rows")
        if found["left_out"]:
            click.echo(f"not readable here: {', '.join(found['left_out'])}")
