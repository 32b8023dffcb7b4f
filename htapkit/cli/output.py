"""How values look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_STATE_STYLE = {
    "following": "green",
    "copying": "yellow",
    "paused": "yellow",
    "set_aside": "red",
    "problem": "red",
    "streaming": "green",
}


def print_status(console: Console, status: Mapping[str, Any]) -> None:
    """Sources and their tables."""
    for source in status["sources"]:
        lag = "unknown" if source["lag_ms"] is None else f"{source['lag_ms']:.0f} ms"
        style = _STATE_STYLE.get(source["state"], "red")
        console.print(
            f"[bold]{source['name']}[/]  [{style}]{source['state']}[/]  lag {lag}, "
            f"{source['lag_bytes']:,} bytes  {source['rows_per_second']:,.0f} rows/s  "
            f"position {source['position'] or '-'}"
        )
        for line in [source["why"], *source["warnings"]]:
            if line:
                console.print(f"  [yellow]{escape(line)}[/]", highlight=False)
        console.print(_tables(source["tables"]))
    for sink in status["sinks"]:
        _print_sink(console, sink)
    if status["imported"]:
        console.print(_imported(status["imported"]))


def _print_sink(console: Console, sink: Mapping[str, Any]) -> None:
    """A sink, and those of its tables that do not follow."""
    style = "green" if sink["state"] == "sending" else "red"
    console.print(
        f"[bold]{sink['name']}[/]  (from {sink['source']})  [{style}]{sink['state']}[/]  lag "
        f"{sink['lag_bytes']:,} bytes, kept for it {sink['kept_bytes']:,}  "
        f"{sink['rows_sent']:,} rows sent  position {sink['position'] or '-'}"
    )
    lines = [f"{t['table']} {t['state']}: {t['why']}" for t in sink["tables"] if t["why"]]
    for line in [sink["why"], *lines]:
        if line:
            console.print(f"  [yellow]{escape(line)}[/]", highlight=False)


def _tables(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The tables of a source; columns that would be empty are left out."""
    columns: dict[str, list[str]] = {
        "table": [row["table"] for row in rows],
        "state": [f"[{_STATE_STYLE.get(row['state'], 'white')}]{row['state']}[/]" for row in rows],
        "rows": [_rows(row) for row in rows],
        "in the lake": [_in_the_lake(row) for row in rows],
        "history": [_history(row) for row in rows],
        "archive": [_archive(row) for row in rows],
        "last good position": [row["position"] for row in rows],
        "last error": [row["why"] for row in rows],
    }
    shown = {name: cells for name, cells in columns.items() if name == "table" or any(cells)}
    table = Table(box=None)
    for name in shown:
        table.add_column(name, no_wrap=name in {"table", "state", "rows"})
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*cells)
    return table


def _imported(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Iceberg tables that are read besides."""
    table = Table("imported table", "in the catalog", "rows", "why not", box=None)
    for row in rows:
        left_out = f"not readable: {', '.join(row['left_out'])}" if row["left_out"] else ""
        why = escape(row["why"] or left_out)
        table.add_row(row["table"], row["catalog_name"], f"{row['rows']:,}", why)
    return table


def _rows(row: Mapping[str, Any]) -> str:
    done = f"{row['rows']:,}"
    return f"{done} of ~{row['rows_estimate']:,}" if row["state"] == "copying" else done


def _in_the_lake(row: Mapping[str, Any]) -> str:
    """How many rows, and before when."""
    if not row["lake_below"]:
        return ""
    return f"{row['lake_rows']:,} before {_minute(row['lake_below'])}"


def _history(row: Mapping[str, Any]) -> str:
    """By which column it is cut, what is asked of it, and since when rows are kept."""
    if row.get("history_why"):
        return f"[yellow]{escape(row['history_why'])}[/]"
    if not row.get("time_column"):
        return ""
    inferred = " (inferred)" if row["time_column_inferred"] else ""
    parts = [f"{escape(row['time_column'])}{inferred} by {row['partition']}"]
    parts += [f"hot {_age(row['hot'])}"] if row["hot"] else []
    parts += [f"retention {_age(row['retention'])}"] if row["retention"] else []
    parts += [f"kept since {_minute(row['kept_since'])}"] if row["kept_since"] else []
    return ", ".join(parts)


def _archive(row: Mapping[str, Any]) -> str:
    """How many deleted rows are kept, and whether more will be."""
    if row.get("archive_why"):
        return f"[yellow]{escape(row['archive_why'])}[/]"
    keeps = row.get("on_delete") == "keep"
    if row.get("archived_rows") is None:
        return "on_delete keep, none yet" if keeps else ""
    lake = row["archived_lake_rows"]
    held = f"{row['archived_rows']:,} rows" + (f", {lake:,} of them in the lake" if lake else "")
    return held + ("" if keeps else ", no longer written")


def _minute(moment: str) -> str:
    """An ISO time without what is below a minute."""
    return moment[:16].replace("T", " ")


def _age(seconds: float) -> str:
    """A duration as the configuration has it, in the largest unit that fits."""
    for unit, size in (("year", 31_536_000), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        count, rest = divmod(seconds, size)
        if count and not rest:
            return f"{count:.0f} {unit}{'s' if count > 1 else ''}"
    return f"{seconds:g} s"


_NOT_COMPARED = {
    True: "[green]sound[/], not compared",
    False: "[red]damaged[/]",
    None: "not compared",
}


def print_verification(console: Console, result: Mapping[str, Any]) -> None:
    """What `verify` found."""
    if not result["tables"]:
        console.print("nothing was compared: no table is followed now; see htapkit status")
    if not result["tables"] and not result["not_compared"]:
        return
    table = Table("table", "result", "rows at source", "rows here", "differs at", box=None)
    for row in result["tables"]:
        verdict = "[green]equal[/]" if row["equal"] else "[red]different[/]"
        if row["rows_source"] is None:
            verdict = "[red]not compared[/]"
        if row["why"]:
            verdict += f": {escape(row['why'])}"
        examples = escape("; ".join(row["examples"]))
        counts = [row["rows_source"], row["rows_copy"]]
        shown = ["-" if count is None else f"{count:,}" for count in counts]
        table.add_row(row["table"], verdict, *shown, examples)
    for row in result["not_compared"]:
        verdict = _NOT_COMPARED[row["sound"]]
        count = "-" if row["rows"] is None else f"{row['rows']:,}"
        table.add_row(row["table"], f"{verdict}: {escape(row['why'])}", "-", count, "")
    console.print(table)
    console.print(f"position {result['position'] or '-'}, {result['seconds']} s")
