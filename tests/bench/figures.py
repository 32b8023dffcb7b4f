"""One published figure, and the table of them."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, its baseline in the same run, and what is asked of it."""

    what: str
    ours: str
    baseline: str
    ratio: float | None
    goal: str
    floor: str
    met: bool
    above_floor: bool

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.met:
            return "goal met"
        return "between floor and goal" if self.above_floor else "BELOW THE FLOOR"


def at_least(
    what: str, ours: float, baseline: float, goal: float, floor: float, unit: str
) -> Figure:
    """A figure whose ratio to the baseline should be high."""
    ratio = ours / baseline
    return Figure(
        what,
        f"{ours:,.0f} {unit}",
        f"{baseline:,.0f} {unit}",
        ratio,
        f">= {goal:g}",
        f">= {floor:g}",
        ratio >= goal,
        ratio >= floor,
    )


def at_most(
    what: str, ours: float, baseline: float, goal: float, floor: float, unit: str
) -> Figure:
    """A figure whose ratio to the baseline should be low."""
    ratio = ours / baseline
    return Figure(
        what,
        f"{ours:,.2f} {unit}",
        f"{baseline:,.2f} {unit}",
        ratio,
        f"<= {goal:g}",
        f"<= {floor:g}",
        ratio <= goal,
        ratio <= floor,
    )


def told(what: str, ours: str, baseline: str = "-", ratio: float | None = None) -> Figure:
    """A figure of which nothing is asked."""
    return Figure(what, ours, baseline, ratio, "-", "-", met=True, above_floor=True)


def show(figures: list[Figure]) -> None:
    """On the terminal."""
    table = Table("what", "ours", "baseline", "ratio", "goal", "floor", "")
    for f in figures:
        ratio = "-" if f.ratio is None else f"{f.ratio:.2f}"
        table.add_row(f.what, f.ours, f.baseline, ratio, f.goal, f.floor, f.verdict)
    Console(width=150).print(table)


def machine() -> str:
    """What this ran on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {system}"


def write_markdown(figures: list[Figure], path: Path) -> None:
    """Put the figures into the table of docs/benchmarks.md; rows of other benchmarks stay."""
    begin, end = "<!-- figures -->", "<!-- /figures -->"
    head, _, rest = path.read_text().partition(begin)
    table, _, tail = rest.partition(end)
    rows = {line.split(" | ")[0]: line for line in table.splitlines() if line.startswith("| ")}
    rows.pop("| what", None)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    for f in figures:
        ratio = "-" if f.ratio is None else f"{f.ratio:.2f}"
        cells = (f.what, f.ours, f.baseline, ratio, f.goal, f.floor, f.verdict, today)
        rows[f"| {f.what}"] = f"| {' | '.join(cells)} |"
    lines = [
        f"On {machine()}, by `make bench`:",
        "",
        "| what | ours | baseline | ratio | goal | floor | | measured |",
        "|---|---|---|---|---|---|---|---|",
        *rows.values(),
    ]
    path.write_text(head + begin + "\n" + "\n".join(lines) + "\n" + end + tail)
