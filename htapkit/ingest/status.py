"""What the mirror tells about itself.

Plain values for the API, `htapkit status` and the metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from htapkit.spi import LogLag

LOG_BEHIND_SECONDS = 5.0


class SourceState(StrEnum):
    """Where a source's mirror stands."""

    STARTING = "starting"  # attaching: looking at the catalog, opening the stream
    STREAMING = "streaming"  # changes come in
    UNAVAILABLE = "unavailable"  # the source does not answer; retried
    REFUSED = "refused"  # the source said no, somebody has to act; retried slowly
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table as `htapkit status` shows it."""

    table: str
    state: str
    rows: int
    rows_estimate: int
    why: str
    position: str
    text_columns: tuple[str, ...] = ()
    lake_rows: int = 0
    lake_below: str = ""  # the boundary, ISO 8601; "" = all of the table is hot
    kept_since: str = ""  # the horizon, ISO 8601; "" = no row is too old
    archived_rows: int | None = None  # deleted at the source and kept; None = it has no archive
    archived_lake_rows: int = 0  # of those, in the lake
    archive_why: str = ""  # why the archive cannot be read, or written


@dataclass(frozen=True, slots=True)
class SourceReport:
    """One source as `htapkit status` shows it."""

    name: str
    state: str
    why: str
    position: str
    lag_bytes: int
    lag_ms: float | None
    rows_per_second: float
    rows_applied: int
    warnings: tuple[str, ...]
    tables: tuple[TableReport, ...]

    @property
    def ready(self) -> bool:
        """Every table is copied and followed."""
        good = {"following"}
        return self.state == SourceState.STREAMING and all(t.state in good for t in self.tables)

    @property
    def caught_up(self) -> bool:
        """Nothing is to be copied; what is paused, or cannot be mirrored, is not waited for."""
        copying = any(t.state == "copying" for t in self.tables)
        return self.state == SourceState.STREAMING and not copying


def logs_behind(logs: Sequence[LogLag], seconds: float = LOG_BEHIND_SECONDS) -> tuple[str, ...]:
    """Which of several logs are behind by that much or more, and why; what the copy has. Pure."""
    behind = [
        log for log in logs if log.why or log.behind_seconds >= min(seconds, LOG_BEHIND_SECONDS)
    ]
    said = [
        f"{log.log} is {log.behind_seconds:.0f} s behind" + (f": {log.why}" if log.why else "")
        for log in behind
    ]
    return (*said, *dict.fromkeys(log.vouched for log in behind if log.vouched))
