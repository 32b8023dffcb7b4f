"""The command `htapkit cassandra-load`: rows of files or of a statement into one table."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from htapkit.commands import Surroundings
from htapkit.model import TableId
from htapkit_cassandra.fitting import LoadRefused
from htapkit_cassandra.inputs import Input, ParquetInput, QueryInput
from htapkit_cassandra.loading import Load, Loaded, Prepared, Told, Wanted
from htapkit_cassandra.settings import CONSISTENCIES, parse_settings

_ASKS = re.compile(r"[\s(]*(SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)


@click.command("cassandra-load")
@click.argument("table")
@click.option("--parquet", type=click.Path(path_type=Path), help="A file here, or a folder.")
@click.option("--query", help="A SELECT, answered by the running server.")
@click.option(
    "--method",
    type=click.Choice(["auto", "cql", "sstable"]),
    default="auto",
    show_default=True,
    help="auto: CQL up to 50,000 rows, files beyond.",
)
@click.option(
    "--consistency", type=click.Choice(CONSISTENCIES), default="LOCAL_QUORUM", show_default=True
)
@click.option(
    "--max-rejected",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="With more rows that do not fit, nothing is written.",
)
@click.option("--compare", type=click.IntRange(min=0), help="Read back so many rows; default: all.")
@click.option(
    "--rows-per-second",
    type=click.IntRange(min=1),
    help="Over CQL; default: limits.snapshot_rows_per_second.",
)
@click.option(
    "--timestamp",
    type=click.IntRange(min=1),
    help="The cells' write time in microseconds; default: when the load begins.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where files are made, seen by the node under the same path; default: below data_dir.",
)
@click.option("--source", default="", help="The database of --query; default: the first source.")
@click.option("--user", default="", help="The user of --query, whose password is in PGPASSWORD.")
@click.option("--dry-run", is_flag=True, help="Read and check all rows; write nothing.")
@click.option("--restart", is_flag=True, help="Forget a load of this table that was interrupted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("htapkit.yaml"),
    show_default=True,
    help="The configuration file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.pass_obj
def cassandra_load(  # noqa: PLR0913, PLR0917 - click passes options as arguments
    around: Surroundings,
    table: str,
    parquet: Path | None,
    query: str | None,
    method: str,
    consistency: str,
    max_rejected: int,
    compare: int | None,
    rows_per_second: int | None,
    timestamp: int | None,
    folder: Path | None,
    source: str,
    user: str,
    dry_run: bool,  # noqa: FBT001
    restart: bool,  # noqa: FBT001
    yes: bool,  # noqa: FBT001
    config_path: Path,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Write rows into the Cassandra table TABLE (source.keyspace.table), and read them back.

    All rows are read and checked before the first is written. Repeated after it was interrupted, it
    goes on.
    """
    target = _table(table)
    options = around.source_options(config_path, target.source, "cassandra")
    given = _input(around, config_path, parquet, query, source, user)
    wanted = Wanted(
        method,
        consistency,
        max_rejected,
        compare,
        rows_per_second or options.snapshot_rows_per_second_max,
        timestamp,
        folder,
    )
    assert options.folder is not None
    load = Load(parse_settings(options), options.folder / "load", target, wanted)
    with load.locked():
        if restart:
            load.forget()
        with _progress(shown=not as_json) as told:
            prepared = load.prepare(given, told)
        found = _told(load, prepared)
        if not dry_run and (yes or _agreed(prepared)):
            with _progress(shown=not as_json) as told:
                found |= _outcome(prepared, load.write(prepared, told))
    click.echo(json.dumps(found) if as_json else "\n".join(_lines(found)))
    done = dry_run or "seconds" in found
    sys.exit(0 if done and found["equal"] is not False and not found["rejected"] else 1)


def _table(name: str) -> TableId:
    parts = name.split(".")
    if len(parts) != 3 or not all(parts):
        raise click.UsageError(f"'{name}': the table is called source.keyspace.table")
    return TableId(*parts)


def _input(
    around: Surroundings,
    config_path: Path,
    parquet: Path | None,
    query: str | None,
    source: str,
    user: str,
) -> Input:
    if (parquet is None) == (query is None):
        raise click.UsageError("give --parquet PATH or --query SQL")
    if parquet is not None:
        return ParquetInput(parquet)
    assert query is not None
    if not _ASKS.match(query):
        raise LoadRefused("--query takes a SELECT; other statements are for `htapkit sql`")
    return QueryInput(query, source, partial(around.rows, config_path, query, source, user))


def _agreed(prepared: Prepared) -> bool:
    rows, also = f"{prepared.state.rows:,} rows", ""
    if prepared.resumed:
        rows = f"the {rows} that were read at {prepared.read_at:%Y-%m-%d %H:%M:%S} UTC"
        also = "go on and "
    what = f"{also}write {rows} into it ({prepared.method})"
    return click.confirm(f"{prepared.to.table}: {what}?", err=True)


def _told(load: Load, prepared: Prepared) -> dict[str, Any]:
    state = prepared.state
    return {
        "table": str(prepared.to.table),
        "rows": state.rows,
        "method": prepared.method,
        "timestamp": state.written_at,
        "resumed": prepared.resumed,
        "read_at": prepared.read_at.isoformat(),
        "columns": list(state.columns),
        "untouched": list(prepared.untouched),
        "rejected": state.rejected,
        "reasons": list(prepared.reasons),
        "rejects": str(load.rejects) if state.rejected else "",
        "equal": None,
    }


def _outcome(prepared: Prepared, loaded: Loaded) -> dict[str, Any]:
    compared, files = loaded.compared, loaded.files
    return {
        "seconds": round(loaded.seconds, 3),
        "rows_per_second": round(prepared.state.rows / max(loaded.seconds, 0.001)),
        "files": files.files if files else 0,
        "bytes": files.bytes if files else 0,
        "compared": compared.compared,
        "equal": compared.equal == compared.compared if compared.compared else None,
        "missing": compared.missing,
        "different": compared.different,
        "columns_different": dict(compared.columns),
        "examples": compared.examples,
    }


def _lines(found: dict[str, Any]) -> Iterator[str]:
    table, rows = found["table"], f"{found['rows']:,} rows"
    if found["resumed"]:
        yield f"{table}: goes on with the rows that were read at {found['read_at']}"
    if "seconds" not in found:
        yield f"{table}: {rows} would be written ({found['method']}); nothing was"
    else:
        files = f" in {found['files']:,} files" if found["files"] else ""
        yield (
            f"{table}: {rows} written ({found['method']}{files}) in {found['seconds']:.1f} s, "
            f"{found['rows_per_second']:,} rows/s, at {found['timestamp']}"
        )
        yield (
            f"{found['compared']:,} of them read back: {found['missing']:,} are missing, "
            f"{found['different']:,} different"
        )
        yield from (f"  {example}" for example in found["examples"])
        if found["equal"] is False:
            yield "  what others wrote meanwhile, or with a later time, stays and is different"
    if found["untouched"]:
        yield f"columns that are not given stay as they are: {', '.join(found['untouched'])}"
    if found["rejected"]:
        yield f"{found['rejected']:,} rows rejected"
        yield from (f"  {reason}" for reason in found["reasons"])
        yield f"all of them: {found['rejects']}"


@contextmanager
def _progress(*, shown: bool) -> Iterator[Told]:
    """A bar for each step, with its rows per second, on a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not shown or not console.is_terminal) as bars:
        tasks: dict[str, tuple[Any, float]] = {}

        def told(what: str, done: int, of: int | None) -> None:
            if what not in tasks:
                tasks[what] = (bars.add_task(what, total=of), time.monotonic())
            task, begun = tasks[what]
            rate = done / max(time.monotonic() - begun, 0.001)
            bars.update(task, completed=done, total=of, description=f"{what}, {rate:,.0f} rows/s")

        yield told
