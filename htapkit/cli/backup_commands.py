"""`backup` asks the running server; `restore` makes a data_dir that no server has yet."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from htapkit import backup as backups
from htapkit import failpoints
from htapkit.cli.history import lake_settings
from htapkit.cli.lake_commands import follow
from htapkit.cli.options import CONFIG, JSON, client_of
from htapkit.client import ServerUnreachable
from htapkit.config import Config, load_config
from htapkit.errors import ConfigError
from htapkit.lake import Lake

_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@click.command()
@_FOLDER
@CONFIG
@JSON
def backup(folder: Path, config_path: Path, as_json: bool) -> None:
    """Write hot store and lake, as of one position, to the new folder DIR while the server runs."""
    config = load_config(config_path)
    with client_of(config) as client:
        job = client.backup(str(folder.absolute()))
        result = follow(client, job["id"], quiet=as_json, counted="")
    if as_json:
        click.echo(json.dumps(result))
        return
    at = ", ".join(f"{source} at {position}" for source, position in result["positions"].items())
    click.echo(f"{result['folder']}: {result['bytes']:,} bytes, {at or 'no source copied yet'}")


@click.command()
@_FOLDER
@CONFIG
@JSON
def restore(folder: Path, config_path: Path, as_json: bool) -> None:
    """Make the configuration's empty data_dir, and its lake, what the backup in DIR holds."""
    config = load_config(config_path)
    _refuse_running(config)
    failpoints.arm_from_environment()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True, quiet=as_json)
    with (
        Lake(lake_settings(config)) as lake,
        Progress(*columns, console=console, transient=True) as shown,
    ):
        bar = shown.add_task("reading", total=None)

        def progress(step: str, done: int, total: int) -> None:
            shown.update(bar, description=step, completed=done, total=total or None)

        made = backups.restore(folder.absolute(), config.data_dir, lake, progress)
    positions = dict(made.positions)
    if as_json:
        click.echo(json.dumps({"data_dir": str(config.data_dir), "positions": positions}))
        return
    at = ", ".join(f"{source} at {position}" for source, position in positions.items())
    click.echo(f"{config.data_dir}: {at or 'no source copied yet'}; next: htapkit serve")


def _refuse_running(config: Config) -> None:
    with client_of(config) as client:
        try:
            pid = client.status()["pid"]
        except ServerUnreachable:
            return
    raise ConfigError(f"htapkit serve (process {pid}) runs with this configuration; stop it first")
