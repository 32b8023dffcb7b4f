"""Which server is followed: its identifier, the database, and the line of its history.

A server that is put back to an earlier moment, and a standby that takes over, begin a timeline of
their own. Two of them may have the same number; where they left the others tells them apart.
https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg
from psycopg import pq

from htapkit.errors import SourceRefused
from htapkit_postgres.connection import Settings, conninfo, source_error, translated
from htapkit_postgres.pgoutput import parse_lsn

_IDENTITY = re.compile(r"(\d+)(?:@([0-9A-F:,]+))?/(.*)", re.DOTALL)
_LEFT = re.compile(r"^(\d+)\s+([0-9A-F]+/[0-9A-F]+)", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """`left`: the timelines before `timeline` in their order, and the position each was left at."""

    timeline: int
    left: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        """As it is stored: `1:1485D40,2`."""
        return ",".join([*(f"{number}:{at:X}" for number, at in self.left), str(self.timeline)])

    def goes_on_as(self, now: Line, position: int) -> bool:
        """Whether `now` has the same log up to `position`."""
        if now.left[: len(self.left)] != self.left:
            return False
        rest = now.left[len(self.left) :]
        if not rest:
            return now.timeline == self.timeline
        timeline, at = rest[0]
        return timeline == self.timeline and at >= position


@dataclass(frozen=True, slots=True)
class Identity:
    """A database of a server; `line` is None where it was stored without, and of a standby."""

    system: str
    database: str
    line: Line | None = None

    def __str__(self) -> str:
        """As it is stored: `7300000000000000001@1:1485D40,2/shop`."""
        line = f"@{self.line}" if self.line else ""
        return f"{self.system}{line}/{self.database}"

    @property
    def name(self) -> str:
        """Without the line: for people."""
        return f"{self.system}/{self.database}"

    @property
    def timeline(self) -> int:
        """Its number; 0 where it is not known."""
        return self.line.timeline if self.line else 0


def parse_identity(text: str) -> Identity | None:
    """What `str` made of one; None: it is another connector's."""
    found = _IDENTITY.fullmatch(text)
    if found is None:
        return None
    system, line, database = found.groups()
    return Identity(system, database, _parse_line(line) if line else None)


def _parse_line(text: str) -> Line:
    *before, timeline = text.split(",")
    pairs = (part.split(":") for part in before)
    return Line(int(timeline), tuple((int(number), int(at, 16)) for number, at in pairs))


def read_line(settings: Settings, timeline: int) -> Line:
    """The line of a server that is on `timeline` now. Raises SourceError."""
    if timeline == 1:
        return Line(1)  # it has no history, and to ask for one is an error
    doing = f"read the history of timeline {timeline}"
    with (
        translated(settings, doing),
        psycopg.connect(conninfo(settings, replication="database"), autocommit=True) as connection,
    ):
        result = connection.pgconn.exec_(b"TIMELINE_HISTORY %d" % timeline)
    if result.status != pq.ExecStatus.TUPLES_OK:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        raise source_error(settings, doing, state, result.get_error_message())
    left = _LEFT.findall((result.get_value(0, 1) or b"").decode(errors="replace"))
    if not left:
        raise SourceRefused(
            f"{settings.source}: the history of its timeline {timeline} says nothing, so nobody "
            "knows whether the server still has what was copied"
        )
    return Line(timeline, tuple((int(number), parse_lsn(at)) for number, at in left))
