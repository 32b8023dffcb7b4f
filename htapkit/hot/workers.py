"""How many threads DuckDB has: all cores while nothing is applied, few as soon as something is.

A query on every core holds up the thread that applies changes, even with DuckDB's workers niced:
a statement of the applier's, too, waits for the part of it that a worker took. While there are no
changes, those cores would only stand idle. So the number follows what the applier had to do since
the last look. Where `limits.threads` says a number, it is that one, always.
"""

from __future__ import annotations

import contextlib
import os
import threading

import duckdb

from htapkit.errors import StoreError
from htapkit.hot.core import Core
from htapkit.hot.database import step_back

_BUSY_SHARE = 0.05  # of the time since the last look that was spent in applying


class Workers:
    """DuckDB's threads of one store. Looked after by one thread."""

    def __init__(self, core: Core) -> None:
        """As the file was opened."""
        self._core = core
        self._seen = (core.seconds(), 0.0)
        self._opened = core.database.opened
        self.number = core.database.limits.worker_threads

    def adjust(self, apply_seconds: float) -> None:
        """Follow what the applier did; `apply_seconds` are all that it ever spent."""
        database = self._core.database
        if database.limits.threads is not None:
            return
        now = self._core.seconds()
        (before, spent), self._seen = self._seen, (now, apply_seconds)
        busy = self._core.large_open or apply_seconds - spent > _BUSY_SHARE * (now - before)
        few = database.limits.worker_threads
        if self._opened != database.opened:
            self._opened, self.number = database.opened, few
        wanted = few if busy else max(few, os.cpu_count() or 1)
        if wanted != self.number and self._set(wanted):
            self.number = wanted

    def _set(self, number: int) -> bool:
        """Whether DuckDB has that many now."""
        done: list[int] = []

        def change() -> None:
            step_back({threading.get_native_id()})  # DuckDB's new threads inherit it
            with contextlib.suppress(StoreError, duckdb.Error):  # whoever needs the file will see
                cursor = self._core.database.cursor()
                try:
                    cursor.execute(f"SET threads = {number:d}")
                    done.append(number)
                finally:
                    self._core.database.release(cursor)

        thread = threading.Thread(target=change, name="duckdb threads", daemon=True)
        thread.start()
        thread.join()
        return bool(done)
