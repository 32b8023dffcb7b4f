"""The commands about history: each queues a job at the running server and follows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from htapkit.cli.options import CONFIG, JSON, client_of, full_name
from htapkit.client import Client
from htapkit.config import load_config

ENGINE = click.option(
    "--engine", default="", help="Another engine, such as spark; default: htapkit."
)
NO_WAIT = click.option("--no-wait", is_flag=True, help="Print the job's id and do not wait.")


@click.command()
@click.argument("tables", nargs=-1)
@click.option("--older-than", help="Move what is older, such as '7 days'; default: `hot`.")
@NO_WAIT
@CONFIG
@JSON
def tier(
    tables: tuple[str, ...],
    older_than: str | None,
    no_wait: bool,
    config_path: Path,
    as_json: bool,
) -> None:
    """Move closed time ranges of TABLES (none: all that have `hot`) to the lake."""
    config = load_config(config_path)
    with client_of(config) as client:
        names = [full_name(config, table) for table in tables]
        job = client.tier(names, older_than)
        result = outcome(client, job, no_wait=no_wait, as_json=as_json)
    if result is None:
        return
    shown = Table("table", "in the lake before", "rows moved", "patches folded", box=None)
    for row in result["tables"]:
        below = datetime.fromtimestamp(row["below"] / 1e6, UTC)
        shown.add_row(
            row["table"], f"{below:%Y-%m-%d %H:%M}", f"{row['rows']:,}", str(row["folded"])
        )
    Console().print(shown)


@click.command()
@click.argument("tables", nargs=-1)
@ENGINE
@NO_WAIT
@CONFIG
@JSON
def compact(
    tables: tuple[str, ...], engine: str, no_wait: bool, config_path: Path, as_json: bool
) -> None:
    """Join small files of TABLES (none: of all in the lake) into sorted ones. No row changes."""

    def queue(client: Client, names: Sequence[str]) -> Mapping[str, Any]:
        return client.compact(names, engine)

    _upkeep(queue, tables, config_path, no_wait=no_wait, as_json=as_json)


@click.command()
@click.argument("tables", nargs=-1)
@ENGINE
@NO_WAIT
@CONFIG
@JSON
def expire(
    tables: tuple[str, ...], engine: str, no_wait: bool, config_path: Path, as_json: bool
) -> None:
    """Remove versions of TABLES (none: of all in the lake) that nobody reads any more."""

    def queue(client: Client, names: Sequence[str]) -> Mapping[str, Any]:
        return client.expire(names, engine)

    _upkeep(queue, tables, config_path, no_wait=no_wait, as_json=as_json)


@click.command()
@click.argument("tables", nargs=-1)
@NO_WAIT
@CONFIG
@JSON
def retain(tables: tuple[str, ...], no_wait: bool, config_path: Path, as_json: bool) -> None:
    """Drop what is older than `retention` of TABLES (none: all that have it) from the copy."""
    config = load_config(config_path)
    with client_of(config) as client:
        job = client.retain([full_name(config, table) for table in tables])
        result = outcome(client, job, no_wait=no_wait, as_json=as_json)
    if result is None:
        return
    shown = Table("table", "kept since", "hot rows dropped", "lake rows dropped", box=None)
    for row in result["tables"]:
        since = datetime.fromtimestamp(row["since"] / 1e6, UTC)
        shown.add_row(
            row["table"], f"{since:%Y-%m-%d %H:%M}", f"{row['hot_rows']:,}", f"{row['lake_rows']:,}"
        )
    Console().print(shown)


@click.command()
@click.argument("table")
@click.option("--where", "condition", required=True, help="Which rows, such as 'user_id = 17'.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@NO_WAIT
@CONFIG
@JSON
def erase(
    table: str, condition: str, yes: bool, no_wait: bool, config_path: Path, as_json: bool
) -> None:
    """Purge what is left in the copy of rows of TABLE that were deleted at the source."""
    config = load_config(config_path)
    if not yes:
        click.confirm(f"erase all past of '{table}', and rows where {condition}?", abort=True)
    with client_of(config) as client:
        job = client.erase(full_name(config, table), condition)
        result = outcome(client, job, no_wait=no_wait, as_json=as_json)
    if result is None:
        return
    click.echo(f"{result['table']}: erased; the last file is removed by {result['gone_by'][:16]}")


def _upkeep(
    queue: Callable[[Client, Sequence[str]], Mapping[str, Any]],
    tables: tuple[str, ...],
    config_path: Path,
    *,
    no_wait: bool,
    as_json: bool,
) -> None:
    config = load_config(config_path)
    with client_of(config) as client:
        names = [full_name(config, table) for table in tables]
        job = queue(client, names)
        result = outcome(client, job, no_wait=no_wait, as_json=as_json)
    if result is None:
        return
    shown = Table("table", "compacted", "files removed", box=None)
    for row in result["tables"]:
        shown.add_row(row["table"], "yes" if row["compacted"] else "", str(row["files_removed"]))
    Console().print(shown)


def outcome(
    client: Client, job: Mapping[str, Any], *, no_wait: bool, as_json: bool
) -> Mapping[str, Any] | None:
    """Follow a job that was queued; its result, if that is still to be shown to a person.

    With `no_wait` the job is printed instead, and with `as_json` what is printed is JSON. Raises
    ServerRefused if the job failed.
    """
    if no_wait:
        click.echo(json.dumps(job) if as_json else job["id"])
        return None
    result = follow(client, job["id"], quiet=as_json)
    if as_json:
        click.echo(json.dumps(result))
        return None
    return result


def follow(client: Client, job_id: str, *, quiet: bool, counted: str = "rows") -> Mapping[str, Any]:
    """Wait for a job with a bar on the terminal; its result. Raises ServerRefused if it failed."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(counted),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("waiting", total=None)

        def told(job: Mapping[str, Any]) -> None:
            step = job["step"] or job["state"]
            progress.update(
                bar, description=step, completed=job["done"], total=job["total"] or None
            )

        return client.wait(job_id, told=told)
