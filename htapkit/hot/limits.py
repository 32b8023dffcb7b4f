"""What the hot store may use. Reaching a limit is a named error or back-pressure, never a loss."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HotLimits:
    """Limits of one hot store. Messages name them by their key in the configuration."""

    memory_bytes: int = 2**30
    disk_bytes: int | None = None
    disk_free_bytes: int = 64 * 2**20
    temp_bytes: int | None = None  # None: as much as the disk limits leave
    staged_bytes: int = 4 * 2**30
    threads: int | None = None  # None: as many as the applier can spare
    reads: int = 16  # at the same time
    read_seconds: float | None = None
    lease_seconds: float = 60.0  # after its last use
    checkpoint_bytes: int = 128 * 2**20  # of log; recovery takes about 26 ms for each MB
    position_seconds: float = 10.0  # a position without changes is stored no more often
    rewrite_share: float = 0.5  # of a table's rows changed since it was last written in order
    rewrite_rows_min: int = 100_000
    rewrite_rows_max: int = 4_000_000  # a rewrite holds up the applier for about 0.2 s per million

    @property
    def worker_threads(self) -> int:
        """DuckDB's threads while changes are applied: no query may take the applier's core."""
        if self.threads is not None:
            return self.threads
        return max(1, (os.cpu_count() or 1) // 2)
