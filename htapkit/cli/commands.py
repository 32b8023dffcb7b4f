"""The commands. Each is thin: read the configuration, do one thing, print it, exit with its code.

Exit codes: 0 done, 1 the answer is no (not equal, not ready, findings), 2 wrong usage or
configuration, 3 the server or source does not answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from htapkit.cli.around import Around
from htapkit.cli.backup_commands import backup, restore
from htapkit.cli.feeds import check_sinks, detach_stopped
from htapkit.cli.findings import print_findings, shown_finding, unknown_tables
from htapkit.cli.lake_commands import compact, erase, expire, retain, tier
from htapkit.cli.logs import set_up_logging
from htapkit.cli.movement_commands import backfill, export, import_
from htapkit.cli.options import CONFIG, JSON, client_of, full_name
from htapkit.cli.output import print_status, print_verification
from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.config import Config, load_config
from htapkit.errors import ConfigError, HtapkitError, SourceUnavailable
from htapkit.model import Finding, Severity
from htapkit.plugins import factory, registered
from htapkit.spi import COMMANDS, load_source


class Commands(click.Group):
    """Ours, and those that installed packages have registered, loaded when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all."""
        return sorted({*super().list_commands(ctx), *registered(COMMANDS)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of ours or theirs; of a package that lacks another one, what says so."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in registered(COMMANDS):
            return own
        try:
            theirs: Any = factory(COMMANDS, cmd_name, f"command '{cmd_name}'")
        except ModuleNotFoundError as error:
            return _lacking(cmd_name, error)
        return theirs


def _lacking(name: str, error: ModuleNotFoundError) -> click.Command:
    text = f"needs the package '{error.name}', which is not installed."

    @click.command(name, help=f"It {text}", context_settings={"ignore_unknown_options": True})
    @click.argument("_", nargs=-1, type=click.UNPROCESSED)
    def refuse(_: tuple[str, ...]) -> None:
        raise ConfigError(f"`htapkit {name}` {text}")

    return refuse


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(version("htapkit"), prog_name="htapkit")
def cli() -> None:
    """Analytics on the database that you already run: an exact, fresh, fast copy beside it."""


@cli.command()
@click.argument("dsn")
@click.option("--name", help="The source's name, and the database that clients connect to.")
@click.option("--connector", default="postgres", show_default=True)
@CONFIG
def init(dsn: str, name: str | None, connector: str, config_path: Path) -> None:
    """Write a configuration for the database at DSN, and look at what it needs."""
    if config_path.exists():
        raise ConfigError(f"{config_path} exists; remove it or choose another with --config")
    source = (
        name
        or dsn.split("?", maxsplit=1)[0].rstrip("/").rpartition("/")[2].split("=")[-1]
        or "shop"
    )
    text = (
        "data_dir: ./htapkit-data\n"
        "sources:\n"
        f"  {source}:\n"
        f"    connector: {connector}\n"
        f"    dsn: {json.dumps(dsn)}\n"
        '    tables: ["public.*"]\n'
        "servers:\n"
        '  pgwire: {listen: "127.0.0.1:6432", auth: source}\n'
        '  http: {listen: "127.0.0.1:6480"}\n'
        '  flight: {listen: "127.0.0.1:6433", auth: source}\n'
    )
    config_path.write_text(text)
    config_path.chmod(0o600)
    try:
        if "${" not in dsn:  # else it may be for another machine's environment
            load_source(connector, load_config(config_path).source_options(source))
    except ConfigError:
        config_path.unlink()
        raise
    console = Console()
    console.print(f"wrote {config_path}; next: htapkit check, then htapkit serve", highlight=False)


@cli.command()
@CONFIG
@JSON
def check(config_path: Path, as_json: bool) -> None:
    """Look at every source: what is missing, and the SQL that mends it. Changes nothing."""
    config = load_config(config_path)
    console = Console()
    worst = Severity.OK
    shown: dict[str, list[dict[str, str]]] = {}
    for name, findings in _findings(config):
        if any(f.severity is Severity.ERROR for f in findings):
            worst = Severity.ERROR
        shown[name] = list(map(shown_finding, findings))
        if not as_json:
            console.rule(name, align="left")
            print_findings(console, findings)
    if as_json:
        click.echo(json.dumps(shown))
    sys.exit(1 if worst is Severity.ERROR else 0)


def _findings(config: Config) -> Iterator[tuple[str, Sequence[Finding]]]:
    """Of each source, then of each sink, as they are found."""
    for name, source_config in config.sources.items():
        source = load_source(source_config.connector, config.source_options(name))
        yield name, [*source.check(), *unknown_tables(config, source, name)]
    yield from check_sinks(config).items()


@cli.command()
@CONFIG
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info"
)
@click.option("--log-json", is_flag=True, help="Log JSON lines.")
def serve(config_path: Path, log_level: str, log_json: bool) -> None:
    """Mirror the sources and answer SQL, until a signal ends it."""
    from htapkit.cli.run import run_until_signal  # noqa: PLC0415 - the other commands start faster

    set_up_logging(log_level, json=log_json)
    path = config_path.resolve()
    run_until_signal(load_config(config_path), lambda: load_config(path))


@cli.command()
@CONFIG
@JSON
def status(config_path: Path, as_json: bool) -> None:
    """Show each source and table of the running server: state, rows, lag, last error."""
    with client_of(load_config(config_path)) as client:
        found = client.status()
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_status(Console(), found)


def _table_command(verb: str, text: str) -> None:
    @cli.command(verb, help=text)
    @click.argument("table")
    @CONFIG
    @JSON
    def act(table: str, config_path: Path, as_json: bool) -> None:
        config = load_config(config_path)
        with client_of(config) as client:
            found = client.table_action(verb, full_name(config, table))
        click.echo(json.dumps(found) if as_json else f"{table}: {verb} done")


_table_command("pause", "Keep TABLE's changes aside; the source answers for it.")
_table_command("resume", "Follow a paused TABLE again.")
_table_command("resync", "Copy TABLE again from the source.")


@cli.command()
@CONFIG
@JSON
def reload(config_path: Path, as_json: bool) -> None:
    """Have the running server read its configuration again: rules of tables change at once."""
    with client_of(load_config(config_path)) as client:
        found = client.reload()
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"changed: {', '.join(found['tables']) or 'no table'}")
    if found["restart_for"]:
        click.echo(f"only with the next start: {', '.join(found['restart_for'])}")


@cli.command()
@click.argument("source")
@CONFIG
@JSON
@click.option("--yes", is_flag=True, help="Do not ask.")
def detach(source: str, config_path: Path, as_json: bool, yes: bool) -> None:
    """Remove slot and publication of SOURCE, and forget its copy; or what is kept for a sink."""
    config = load_config(config_path)
    known = [*config.sources, *config.sinks]
    if source not in known:
        raise ConfigError(f"no source or sink '{source}'; there are: {', '.join(known)}")
    if not yes:
        what = (
            "its place in the log" if source in config.sinks else f"what htapkit made at '{source}'"
        )
        where = "position at the sink" if source in config.sinks else "copy here"
        click.confirm(f"{source}: drop {what} and its {where}?", abort=True)
    try:
        with client_of(config) as client:
            found = client.detach(source)
    except ServerUnreachable:
        detach_stopped(config, source)
        found = {"source": source, "done": "detach"}
    click.echo(json.dumps(found) if as_json else f"{source}: detached")


@cli.command()
@click.argument("tables", nargs=-1)
@CONFIG
@JSON
def verify(tables: tuple[str, ...], config_path: Path, as_json: bool) -> None:
    """Compare every row of source and copy at one position; exit 1 where they differ."""
    config = load_config(config_path)
    with client_of(config) as client:
        result = client.verify([full_name(config, table) for table in tables])
    if as_json:
        click.echo(json.dumps(result))
    else:
        print_verification(Console(), result)
    sys.exit(0 if result["equal"] else 1)


@cli.command()
@click.argument("statement")
@CONFIG
@JSON
@click.option("--source", help="The database to connect to; default: the first source.")
@click.option("--user", help="The user to connect as; default: PGUSER or yourself.")
def sql(
    statement: str,
    config_path: Path,
    as_json: bool,
    source: str | None,
    user: str | None,
) -> None:
    """Run one SQL STATEMENT over the running server's PostgreSQL port."""
    from htapkit.cli.sql import run_statement  # noqa: PLC0415 - needs the postgres extra

    run_statement(load_config(config_path), statement, source, user, as_json=as_json)


@cli.command()
@click.argument("statement")
@CONFIG
@JSON
@click.option("--source", help="The database to connect to; default: the first source.")
@click.option("--user", help="The user to connect as; default: PGUSER or yourself.")
def explain(
    statement: str,
    config_path: Path,
    as_json: bool,
    source: str | None,
    user: str | None,
) -> None:
    """Show where STATEMENT would run, and why not elsewhere."""
    from htapkit.cli.sql import run_statement  # noqa: PLC0415 - needs the postgres extra

    text = f"EXPLAIN (ROUTE) {statement}"
    run_statement(load_config(config_path), text, source, user, as_json=as_json)


for command in (tier, retain, erase, compact, expire, export, backfill, import_, backup, restore):
    cli.add_command(command)


def main() -> None:
    """The entry point: errors become one clear line and an exit code."""
    try:
        cli(standalone_mode=True, obj=Around())
    except (ServerUnreachable, SourceUnavailable) as error:
        _fail(error, 3)
    except ServerRefused as error:
        _fail(error, 1)
    except HtapkitError as error:
        _fail(error, 2)


def _fail(error: HtapkitError, code: int) -> None:
    click.echo(f"htapkit: {error}", err=True)
    sys.exit(code)
