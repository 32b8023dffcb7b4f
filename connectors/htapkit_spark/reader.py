"""Statements for a Spark, which runs in a process of its own: no Java and no pyspark here.

The process is started with the first statement and stays; when it has died, the next statement
starts another one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from htapkit.errors import EngineFailed, QueryCancelled
from htapkit_spark.engine import check
from htapkit_spark.frames import Kind, receive, send, unpacked

_MODULE = "htapkit_spark.statements"
_START_SECONDS_MAX = 270.0
_STOP_SECONDS_MAX = 10.0


class SparkReader:
    """A Spark, by its settings: as `htapkit_spark.engine` takes them."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Nothing is started yet. Raises ConfigError."""
        check(settings)
        self._settings = {name: text for name, text in settings.items() if name != "timeout"}
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._closed = False

    def run(self, sql: str) -> SparkRows:
        """Begin a statement; its process is started by `batches`, if there is none."""
        return SparkRows(self, sql)

    def connect(self) -> socket.socket:
        """A connection to a process that runs. Raises EngineFailed."""
        with self._lock:
            if self._closed:
                raise EngineFailed("Spark: the server stops")
            if self._process is None or not self._process.runs():
                if self._process is not None:
                    self._process.stop()
                self._process = None
                self._process = _Process(self._settings)
            path = self._process.path
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
        except OSError as error:
            connection.close()
            raise EngineFailed(f"Spark's process does not answer: {error}") from error
        return connection

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.stop()
                self._process = None


class SparkRows:
    """The rows of one statement."""

    def __init__(self, reader: SparkReader, sql: str) -> None:
        """Nothing is asked yet."""
        self._reader = reader
        self._sql = sql
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._cancelled = ""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """They, as Spark gives them. Raises EngineFailed, QueryCancelled."""
        connection = self._reader.connect()
        with self._lock:
            self._connection = connection
        try:
            self._check()
            send(connection, Kind.STATEMENT, self._sql.encode())
            while True:
                kind, body = receive(connection)
                if kind is Kind.END:
                    return
                if kind is Kind.FAILED:
                    self._check()
                    raise EngineFailed(f"Spark: {body.decode()}")
                yield from unpacked(body)
                self._check()
        except (OSError, EOFError) as error:
            self._check()
            raise EngineFailed(f"Spark's process has ended in between: {error}") from error
        finally:
            self.close()

    def cancel(self, why: str) -> None:
        """Close the connection, at which the process stops the statement."""
        self._cancelled = self._cancelled or why
        with self._lock:
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _check(self) -> None:
        if self._cancelled:
            raise QueryCancelled(self._cancelled)


class _Process:
    """The program with a session in it."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Start it, and wait until it listens. Raises EngineFailed."""
        self._folder = Path(tempfile.mkdtemp(prefix="htapkit-spark-"))
        self.path = str(self._folder / "socket")
        self._log = (self._folder / "log").open("w+b")
        self._child = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        asked = json.dumps({"settings": dict(settings), "path": self.path})
        late = threading.Timer(_START_SECONDS_MAX, self._kill)
        late.start()
        try:
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            with suppress(OSError):
                self._child.stdin.write(asked.encode() + b"\n")
                self._child.stdin.flush()
            ready = self._child.stdout.readline() == b"ready\n"
        finally:
            late.cancel()
        if not ready:
            why = self._last_words()
            self.stop()
            raise EngineFailed(f"Spark does not start, or is not reached: {why}")

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def stop(self) -> None:
        """End it, with Java."""
        with suppress(OSError):
            if self._child.stdin is not None:
                self._child.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_STOP_SECONDS_MAX)
        self._kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _kill(self) -> None:
        """It, and whatever it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_STOP_SECONDS_MAX)
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line]
        return lines[-1] if lines else "it ended without a word"
