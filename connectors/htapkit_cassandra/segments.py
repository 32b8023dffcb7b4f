"""The node's files in `cdc_raw`: where its log ends, what lies behind a place, what may go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from htapkit.errors import SourceRefused
from htapkit_cassandra.mutations import LogPosition


@dataclass(frozen=True, slots=True)
class Segments:
    """What is there."""

    end: LogPosition | None = None  # of what the node has synced of CDC tables; None: nothing yet
    sizes: tuple[tuple[int, int], ...] = ()  # (segment, bytes) of each

    def behind(self, position: LogPosition | None) -> int:
        """Bytes that the node has synced of CDC tables behind a position."""
        end = self.end
        if end is None or (position is not None and end <= position):
            return 0
        if position is None or end.segment == position.segment:
            return end.offset - (position.offset if position else 0)
        between = (
            size for segment, size in self.sizes if position.segment <= segment < end.segment
        )
        return max(0, sum(between) - position.offset) + end.offset


def segments(cdc_raw: Path) -> Segments:
    """Look at the folder. Raises SourceRefused where it cannot be read."""
    end, sizes = newest(cdc_raw), []
    for segment, log in _logs(cdc_raw):
        with suppress(FileNotFoundError):  # deleted meanwhile
            sizes.append((segment, log.stat().st_size))
    return Segments(end, tuple(sorted(sizes)))


def newest(cdc_raw: Path) -> LogPosition | None:
    """The end of what the node has synced of CDC tables now; None: there is nothing yet.

    Raises SourceRefused where the folder cannot be read.
    """
    found = []
    try:
        for index in cdc_raw.glob("*_cdc.idx"):
            name = re.search(r"-(\d+)_cdc\.idx$", index.name)
            with suppress(FileNotFoundError):  # deleted meanwhile
                lines = index.read_text(encoding="ascii").splitlines()
                if name is not None and lines and lines[0].strip():
                    found.append(LogPosition(int(name[1]), int(lines[0])))
    except OSError as error:
        raise SourceRefused(f"cannot read {cdc_raw}: {error.strerror}") from None
    return max(found, default=None)


def forget(cdc_raw: Path, position: LogPosition) -> None:
    """Delete the node's files of segments that lie wholly before a position."""
    for segment, log in _logs(cdc_raw):
        if segment < position.segment:
            log.unlink(missing_ok=True)
            log.with_name(f"{log.stem}_cdc.idx").unlink(missing_ok=True)


def _logs(cdc_raw: Path) -> Iterator[tuple[int, Path]]:
    for log in cdc_raw.glob("*.log"):
        name = re.search(r"-(\d+)\.log$", log.name)
        if name is not None:
            yield int(name[1]), log
