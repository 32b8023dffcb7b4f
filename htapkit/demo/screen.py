"""What the demo shows: in place on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from htapkit.demo.latency import Waited
from htapkit.demo.questions import Comparison

LINE_SECONDS = 2.0


class Screen:
    """The progress of the mirrored sources, with the load on each."""

    def __init__(self, console: Console) -> None:
        """Nothing is shown before the first `show`."""
        self.console = console
        self._live: Live | None = None
        self._line_due = 0.0

    def __enter__(self) -> Screen:
        """Start showing."""
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()

    def show(self, sources: Sequence[Mapping[str, Any]], loads: Mapping[str, str]) -> None:
        """The newest figures; `loads` is what each source's clients do, by its name."""
        summaries = [_summary(source, loads[source["name"]]) for source in sources]
        if self._live is not None:
            tables = [table for source in sources for table in source["tables"]]
            lines = [Text(summary, style="bold") for summary in summaries]
            self._live.update(Group(_tables(tables), *lines))
        elif time.monotonic() >= self._line_due:
            self._line_due = time.monotonic() + LINE_SECONDS
            for summary in summaries:
                self.say(summary)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, soft_wrap=True)


def _summary(source: Mapping[str, Any], load: str) -> str:
    copied = sum(table["rows"] for table in source["tables"])
    expected = sum(max(table["rows"], table["rows_estimate"]) for table in source["tables"])
    following = sum(table["state"] == "following" for table in source["tables"])
    lag = source["lag_ms"]
    shown_lag = "unknown" if lag is None else f"{lag:,.0f} ms"
    return (
        f"{source['state']}: {following} of {len(source['tables'])} tables follow, "
        f"{copied:,} of {max(copied, expected):,} rows; "
        f"{load}; "
        f"mirror {source['rows_per_second']:,.0f} changes/s, "
        f"lag {shown_lag}, {source['lag_bytes']:,} bytes"
    )


def _tables(tables: Sequence[Mapping[str, Any]]) -> Table:
    shown = Table("table", "state", "rows", "copied", box=None, padding=(0, 2))
    for table in tables:
        done = table["state"] == "following"
        total = max(table["rows"], table["rows_estimate"], 1)
        bar = ProgressBar(total=total, completed=total if done else table["rows"], width=30)
        shown.add_row(table["table"], table["state"], f"{table['rows']:,}", bar)
    return shown


def comparison_table(
    found: Sequence[Comparison], routes: Set[str], source: str = "PostgreSQL"
) -> Table:
    """Both times, whether the rows are equal, and any route that was not expected in red."""
    table = Table("question", "rows", source, "htapkit", "faster", "equal", "answered by")
    for each in found:
        table.add_row(
            each.title,
            str(each.rows),
            f"{each.source_ms:,.1f} ms",
            f"{each.copy_ms:,.1f} ms",
            f"{each.source_ms / each.copy_ms:,.1f}x",
            "[green]yes[/]" if each.equal else "[red]no[/]",
            each.route if each.route in routes else f"[red]{each.route}[/]",
        )
    return table


def waits_table(whose: str, measured: Sequence[tuple[str, Mapping[str, Waited | None]]]) -> Table:
    """How long the source's own clients waited for each kind of operation, at each time."""
    table = Table(whose, "operation", "how many", "p50", "p99")
    for name, by_kind in measured:
        for kind, each in by_kind.items():
            figures = (
                (f"{each.operations:,}", f"{each.p50_ms:,.1f} ms", f"{each.p99_ms:,.1f} ms")
                if each
                else ("0", "", "")
            )
            table.add_row(name, kind, *figures)
    return table
