"""The preflight on a terminal, and what the configuration says of tables that nobody has.

A key below `tables` names one table. Mistyped, it would ask something of no table, in silence:
nothing would move to the lake, or out of the copy. It is no error: the table may come later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape

from htapkit.config import Config
from htapkit.errors import SourceError
from htapkit.model import Finding, Severity
from htapkit.spi import Source

_SEVERITY = {Severity.OK: "[green]ok[/]", Severity.WARNING: "[yellow]warning[/]"}


def unknown_tables(config: Config, source: Source, name: str) -> Iterator[Finding]:
    """A warning for each table that is configured and not there to be mirrored."""
    asked = [key for key in config.tables if key.startswith(f"{name}.")]
    if not asked:
        return
    try:
        found = {str(each.schema.table) for each in source.discover()}
    except SourceError:  # the preflight has said why
        return
    for key in asked:
        if key not in found:
            yield Finding(
                Severity.WARNING,
                f"tables.{key}",
                f"no such table is mirrored; check its name, and sources.{name}.tables",
            )


def shown_finding(finding: Finding) -> dict[str, str]:
    """A finding for JSON."""
    return {
        "severity": finding.severity,
        "subject": finding.subject,
        "message": finding.message,
        "remedy": finding.remedy,
    }


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """The preflight, worst last."""
    order = [Severity.OK, Severity.WARNING, Severity.ERROR]
    for finding in sorted(findings, key=lambda f: order.index(f.severity)):
        label = _SEVERITY.get(finding.severity, "[red]error[/]")
        subject, message = escape(finding.subject), escape(finding.message)
        console.print(f"{label}  [bold]{subject}[/]: {message}", highlight=False)
        for line in finding.remedy.splitlines():
            console.print(f"       {line}", style="cyan", highlight=False, markup=False)
