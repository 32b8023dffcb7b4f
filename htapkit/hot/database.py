"""The DuckDB file: opening it, its settings, its cursors, and what its errors mean.

One process owns the file. After a fatal error DuckDB refuses everything until the file is opened
anew; `reopen` does that, and the rows are then exactly those of the last commit.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

import duckdb
import pyarrow as pa

from htapkit.errors import (
    HtapkitError,
    LimitReached,
    QueryFailed,
    StoreError,
    StoreFailed,
    StoreLocked,
)
from htapkit.hot.limits import HotLimits
from htapkit.sqlfiles import sql

FORMAT = 1
_WORKER_NICE = 10

_PID = re.compile(r"PID (\d+)")
_FATAL = (duckdb.FatalException, duckdb.InternalException, duckdb.IOException)
_FATAL_WORDS = ("database has been invalidated", "FATAL Error", "No space left on device")


# DuckDB would share one instance among all openings of a file in one process.
_open_here: set[Path] = set()
_open_here_lock = threading.Lock()


class Database:
    """The open file. Thread-safe, but each cursor belongs to one thread at a time."""

    def __init__(self, path: Path, limits: HotLimits, warehouse: Path | None = None) -> None:
        """Open or create the file. Raises StoreLocked, StoreFailed, StoreError.

        `warehouse` is the one folder outside from which files may be read.
        """
        self.path = path
        self.limits = limits
        self.warehouse = warehouse
        self.opened = 0  # counts openings: a cursor of an earlier one is dead
        self._lock = threading.Lock()
        self._cursors: set[duckdb.DuckDBPyConnection] = set()
        self._root: duckdb.DuckDBPyConnection | None = None
        self.open()

    @property
    def wal_path(self) -> Path:
        """Where DuckDB keeps what it has not yet moved into the file."""
        return self.path.with_name(self.path.name + ".wal")

    @property
    def temp_path(self) -> Path:
        """Where large sorts and joins go when memory is short."""
        return self.path.with_name(self.path.name + ".tmp")

    def open(self) -> None:
        """Open the file; it must not be open."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _open_here_lock:
            if self.path.resolve() in _open_here:
                raise StoreLocked(
                    f"{self.path} is open in this process already (process {os.getpid()})"
                )
            _open_here.add(self.path.resolve())
        try:
            self._open()
        except BaseException:
            self._not_open()
            raise

    def _open(self) -> None:
        before = _threads()
        try:
            root = duckdb.connect(str(self.path), config=self._config())
        except duckdb.Error as error:
            raise self._cannot_open(error) from error
        step_back(_threads() - before)
        try:
            self._prepare(root)
        except BaseException:
            root.close()
            raise
        with self._lock:
            self._root = root
            self.opened += 1

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A new cursor. Give it back to `release`."""
        with self._lock:
            if self._root is None:
                raise StoreFailed(f"the hot store {self.path} is closed")
            try:
                made = self._root.cursor()
            except duckdb.Error as error:
                raise translated(error) from error
            self._cursors.add(made)
            return made

    def release(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Close a cursor. Safe to call twice."""
        with self._lock:
            self._cursors.discard(cursor)
        _close(cursor)

    def close(self) -> None:
        """Close all cursors and the file, interrupting what runs. Safe to call twice."""
        with self._lock:
            cursors, self._cursors = self._cursors, set()
            root, self._root = self._root, None
        for cursor in cursors:
            with contextlib.suppress(duckdb.Error):
                cursor.interrupt()
        for cursor in cursors:
            _close(cursor)
        if root is not None:
            _close(root)
            self._not_open()

    def _not_open(self) -> None:
        with _open_here_lock:
            _open_here.discard(self.path.resolve())

    def _config(self) -> dict[str, str | bool | int | float | list[str]]:
        limits = self.limits
        temp = limits.temp_bytes or limits.disk_bytes
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": limits.worker_threads,
            "memory_limit": f"{limits.memory_bytes}B",
            "temp_directory": str(self.temp_path),
            "checkpoint_threshold": f"{limits.checkpoint_bytes}B",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        }
        if temp is not None:
            config["max_temp_directory_size"] = f"{temp}B"
        return config

    def _prepare(self, root: duckdb.DuckDBPyConnection) -> None:
        try:
            # A statement from outside must never read a variable of ours, or a file.
            root.execute("SET GLOBAL TimeZone = 'UTC'")
            root.execute("SET python_enable_replacements = false")
            if self.warehouse is not None:
                root.execute("SET allowed_directories = $1", [[str(self.warehouse)]])
            # It counts but a part of what it holds, and holds it when the file is gone.
            root.execute("SET enable_external_file_cache = false")
            root.execute("SET enable_external_access = false")
            # A worker gives its part of a query back now and then, so that their number can change.
            root.execute("SET scheduler_process_partial = true")
            root.execute("SET allowed_configs = ['threads']")
            root.execute("SET lock_configuration = true")
            root.execute(sql("hot/control"))
            found = root.execute("SELECT number FROM htapkit.format").fetchall()
            if not found:
                root.execute("INSERT INTO htapkit.format VALUES ($1)", [FORMAT])
                root.execute("INSERT INTO htapkit.sources (version) VALUES (1)")
            root.execute(sql("hot/trim_versions"))
        except duckdb.Error as error:
            raise self._cannot_open(error) from error
        if found and found[0][0] != FORMAT:
            raise StoreError(
                f"{self.path} has format {found[0][0]}, this version of htapkit reads {FORMAT}; "
                "use the version that wrote it, or remove the file to copy everything again"
            )

    def _cannot_open(self, error: duckdb.Error) -> HtapkitError:
        text = _first_line(error)
        if "lock" in text.lower():
            pid = _PID.search(str(error))
            owner = f"process {pid[1]}" if pid else "another process"
            return StoreLocked(
                f"{self.path} is in use by {owner}; stop it first: a hot store has one owner"
            )
        if is_fatal(error):
            return StoreFailed(
                f"{self.path} cannot be opened: {text}; free space or check the disk"
            )
        return StoreError(
            f"{self.path} cannot be opened: {text}; remove the file to copy everything again"
        )


def is_fatal(error: BaseException) -> bool:
    """Whether the file must be opened anew before anything else can be done with it."""
    if isinstance(error, _FATAL):
        return True
    known = isinstance(error, duckdb.Error | pa.ArrowException | OSError)
    return known and any(word in str(error) for word in _FATAL_WORDS)


def translated(error: BaseException) -> HtapkitError:
    """Our error for one of DuckDB's (or Arrow's, which wraps DuckDB's while a result streams)."""
    text = _first_line(error)
    if is_fatal(error):
        return StoreFailed(f"the hot store failed: {text}")
    if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory Error" in str(error):
        return LimitReached(f"limits.memory: {text}")
    return QueryFailed(text)


def _threads() -> set[int]:
    """The native ids of this process's threads (Linux; nothing elsewhere)."""
    try:
        return {int(path.name) for path in Path("/proc/self/task").iterdir()}
    except OSError:
        return set()


def step_back(threads: set[int]) -> None:
    """Let threads, DuckDB's own workers, go behind the threads that receive and apply changes."""
    for thread in threads:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, _WORKER_NICE)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]


def _close(cursor: duckdb.DuckDBPyConnection) -> None:
    with contextlib.suppress(duckdb.Error):
        cursor.close()
