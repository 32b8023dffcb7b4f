"""Rows written as SSTables, which a node then streams to all replicas (java/TableLoad.java).

Files of another format than the node's own are ignored by it, without an error: so they are looked
at before they are loaded, and the rows are read back after.
"""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any, Final

from htapkit.errors import SourceRefused, SourceUnavailable
from htapkit_cassandra import programs
from htapkit_cassandra.destination import Destination
from htapkit_cassandra.fitting import LoadRefused

NOT_LOADED: Final = 6  # of the exit codes of TableLoad.java
_CONFIGURATION: Final = """\
cluster_name: htapkit
partitioner: {partitioner}
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "127.0.0.1"}}]
commitlog_sync: periodic
commitlog_sync_period: 10000ms
data_file_directories: ["{folder}/data"]
commitlog_directory: "{folder}/commitlog"
cdc_raw_directory: "{folder}/cdc_raw"
hints_directory: "{folder}/hints"
saved_caches_directory: "{folder}/saved_caches"
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
"""
_STOP_SECONDS_MAX: Final = 15.0
_QUIET_SECONDS: Final = 60.0  # after which it is said that it is waited for
_ANSWER_SECONDS_MAX: Final = 86_400  # of the node, which answers when all files are streamed
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """How the program is run."""

    classpath: str
    folder: Path  # for its files; the node has to see it under the same path
    memory: str  # of its heap, such as 512MB
    jmx: str  # of the node, host:port


@dataclass(frozen=True, slots=True)
class FilesMade:
    """What was loaded."""

    files: int
    bytes: int


class Program:
    """The running program: chunks go in, what it says comes out."""

    def __init__(
        self, job: Job, destination: Destination, names: Sequence[str], written: int
    ) -> None:
        """`written`: the time of the rows' cells, in microseconds."""
        self._node = job.jmx
        self._destination = destination
        self._said: list[str] = []
        self._events: Queue[dict[str, Any] | None] = Queue()
        command = _command(job, destination, names, written)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._input: IO[bytes] = self._process.stdin
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        try:
            for line in stream:
                self._events.put(json.loads(line))
        except ValueError:  # the virtual machine says so itself when it gives up
            self._said = [*self._said, line.decode(errors="replace").strip()]
        finally:
            self._events.put(None)

    def _listen(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._said = [*self._said[-4:], line.decode(errors="replace").strip()]
            _log.info("table load: %s", self._said[-1])

    def send(self, raw: bytes) -> None:
        """A chunk; waits while the program is behind. Raises SourceError."""
        try:
            self._input.write(raw)
        except BrokenPipeError:
            raise self._failed() from None

    def finish(self, rows: int, *, loading: Callable[[], None]) -> FilesMade:
        """Complete the files, look at them, load them; `loading` is called before that.

        Raises LoadRefused (they are of another format than the node's, or not of all rows) and
        SourceError.
        """
        self.send((0).to_bytes(4, "big"))
        self._flush()
        done, made = 0, None
        while made is None:
            event = self._next()
            done += event.get("rows", 0)
            made = event if "files" in event else None
        wanted = self._destination.format
        if made["versions"] != [wanted] or done != rows:
            raise LoadRefused(
                f"{self._destination.table}: files of format {', '.join(made['versions'])} with "
                f"{done:,} of {rows:,} rows were made, and the node takes {wanted}; it would "
                "ignore others; load with --method cql"
            )
        loading()
        self.send(b"\1")
        self._flush()
        event = self._next()
        if event != {"loaded": True}:
            raise SourceRefused(
                f"{self._destination.table}: the program that loads files said {event}, and not "
                "that they are loaded"
            )
        return FilesMade(made["files"], made["bytes"])

    def _flush(self) -> None:
        try:
            self._input.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def _next(self) -> dict[str, Any]:
        begun = time.monotonic()
        while True:
            try:
                event = self._events.get(timeout=_QUIET_SECONDS)
            except Empty:
                _log.warning(
                    "%s: the program that makes and loads its files is waited for, for %.0f s now",
                    self._destination.table,
                    time.monotonic() - begun,
                )
                continue
            if event is None:
                raise self._failed()
            return event

    def _failed(self) -> SourceRefused | SourceUnavailable:
        code = self._ended()
        self._threads[1].join(_STOP_SECONDS_MAX)
        said = " ".join(self._said)
        hint = "; raise helper_memory" if "OutOfMemoryError" in said else ""
        text = f"{self._destination.table}: {said} (code {code}){hint}"
        return SourceUnavailable(text) if code == NOT_LOADED else SourceRefused(text)

    def _ended(self) -> int:
        """Its exit code; it is killed where it does not end by itself."""
        try:
            return self._process.wait(_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def stop(self) -> None:
        """End it. Safe to call twice."""
        with suppress(BrokenPipeError):
            self._input.close()  # it ends by itself, and loads nothing
        self._ended()
        for thread in self._threads:
            thread.join(_STOP_SECONDS_MAX)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def running(
    job: Job, destination: Destination, names: Sequence[str], written: int
) -> Iterator[Program]:
    """The program, ended at the end."""
    program = Program(job, destination, names, written)
    try:
        yield program
    finally:
        program.stop()


def _command(job: Job, destination: Destination, names: Sequence[str], written: int) -> list[str]:
    table, folder = destination.table, job.folder.absolute()
    files = folder / "files" / table.schema / table.name
    temporary = folder / "temporary"
    for path in (files, temporary):
        path.mkdir(parents=True)
    text = _CONFIGURATION.format(partitioner=destination.partitioner, folder=temporary)
    if destination.mode:
        text += f"storage_compatibility_mode: {destination.mode}\n"
    configuration = temporary / "cassandra.yaml"
    configuration.write_text(text, encoding="utf-8")
    specification = temporary / "load.json"
    wanted = {
        "types": destination.types,
        "create": destination.create,
        "insert": destination.insert(names, str(written)),
        "columns": len(names),
        "folder": str(files),
        "buffer_mib": 64,
        "jmx": job.jmx,
    }
    specification.write_text(json.dumps(wanted), encoding="utf-8")
    options = [
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",  # Cassandra's writer would wait for its thread
        f"-Dcassandra.config=file://{configuration}",
        f"-Dcassandra.storagedir={temporary}",
        f"-Dsun.rmi.transport.tcp.responseTimeout={_ANSWER_SECONDS_MAX * 1000}",
    ]
    run = programs.command("TableLoad.java", job.classpath, job.memory, temporary, options)
    return [*run, str(specification)]
