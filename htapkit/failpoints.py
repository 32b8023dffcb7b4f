"""Named places where a test may stop the process or raise. In production `reach` does nothing.

Each name marks a moment between two steps that a crash must not tear apart. A test arms a callback
in process, or sets HTAPKIT_FAILPOINT="name:count" in a child: the process is killed when the place
is reached for the count-th time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

MIRROR = (
    "follow.opened",  # a stream is open, nothing applied yet
    "apply.before",  # a batch is here, no transaction begun
    "apply.written",  # rows and position are written, not committed
    "apply.committed",  # committed, not confirmed to the source
    "apply.confirmed",  # confirmed
    "chunk.written",  # a part of a large transaction is written
    "copy.snapshot",  # a snapshot is open, nothing read
    "copy.loaded",  # all rows are in the shadow table, nothing replayed
    "copy.replayed",  # staged changes are replayed, not committed
    "copy.swapped",  # the copy is the table now, committed
)

PARTS = (
    "copy.part",  # a part of a reconciled table is in the shadow table, committed
)

TIER = (
    "tier.begun",  # a run is noted and its export open, nothing written to the lake
    "tier.exported",  # rows and tombstones are being read, the lake has no commit yet
    "tier.committed",  # the lake has the commit of one table, nothing compared
    "tier.verified",  # all tables are written and compared, the boundary is the old one
    "tier.flipped",  # rows have left, the boundary is the new one, committed
)

RANGES = (
    "copy.range",  # a range of a very large table is in the shadow table, committed
)

BACKUP = (
    "backup.hot",  # the hot store is copied, nothing of the lake
    "backup.lake",  # a table of the lake is copied
    "backup.written",  # all is written, under the name of an unfinished one
)

RESTORE = (
    "restore.checked",  # the backup is good, nothing is written
    "restore.lake",  # a table of the lake is back
    "restore.hot",  # all is back, the folder still marked as unfinished
)

REPAIR = (
    "repair.paused",  # the table stands still at one position, nothing is corrected
    "repair.corrected",  # some of its rows are corrected, what was kept aside is not replayed
)

HISTORY = (
    "history.settled",  # files are sorted out, nothing is written
    "history.committed",  # the lake has the rows, nobody reads them yet
)

RETENTION = (
    "retain.hidden",  # old rows have left the hot store and are hidden in the lake, committed
    "retain.retired",  # the lake has a version without their partitions, the former one is read
    "retain.flipped",  # that version is read, committed
)

ERASURE = (
    "erase.archived",  # nobody reads the rows in the archive, committed; the lake still has them
    "erase.folded",  # the version that is read has none of the rows, older ones still do
    "erase.forgotten",  # nobody can ask for the older ones, committed; their files are there
)

EXPORT = (
    "export.part",  # a part of an export is whole, the list of parts does not name it
)

SINK = (
    "sink.opened",  # the feed is ours, what was stored is read, no stream yet
    "sink.written",  # changes are sent, not committed
    "sink.part",  # a part of a large transaction is sent
    "sink.committed",  # committed in the sink, not confirmed to the source
    "sink.confirmed",  # confirmed
    "sink.copying",  # some of the rows of a copy are committed, not all
    "sink.copied",  # all of them are, and the table follows
)

NAMES = (
    *(SINK + MIRROR + RANGES + PARTS + TIER + REPAIR),
    *(BACKUP + RESTORE + RETENTION + ERASURE + HISTORY + EXPORT),
)

Callback = Callable[[str], None]
_callback: Callback | None = None


def reach(name: str) -> None:
    """Say that the place is reached."""
    if _callback is not None:
        _callback(name)


def arm(callback: Callback | None) -> None:
    """Call `callback` at every place from now on; None disarms."""
    global _callback  # noqa: PLW0603 - one switch for the process, for tests only
    _callback = callback


def arm_from_environment() -> None:
    """Kill this process at the place that HTAPKIT_FAILPOINT names ("name:count")."""
    setting = os.environ.get("HTAPKIT_FAILPOINT", "")
    if not setting:
        return
    name, _, count = setting.partition(":")
    if name not in NAMES:
        raise ValueError(f"HTAPKIT_FAILPOINT: '{name}' is none of {', '.join(NAMES)}")
    left = int(count or "1")

    def kill(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    arm(kill)
