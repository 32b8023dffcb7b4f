"""A node's files read on this machine, by children of this process."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from htapkit.errors import SourceRefused
from htapkit_cassandra import folders, jars, programs
from htapkit_cassandra.machine import Copied, Seen
from htapkit_cassandra.mutations import LogPosition
from htapkit_cassandra.segments import Segments, forget, segments

STOP_SECONDS_MAX = 15.0  # it clears a copy's snapshot at the node, and has 10 of them for that
POLL_MS = 20
JMX_SECONDS_MAX = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Here:
    """A `machine.Machine`: how readers are run, and where the node's files are."""

    cdc_raw: str
    cassandra_home: str = ""
    memory: str = "512MB"
    jmx: str = "127.0.0.1:7199"
    data_folders: tuple[str, ...] = ()  # none: where the node says
    folder: Path | None = None  # where the readers' files lie; None: among the temporary ones
    deletes: bool = True

    @property
    def name(self) -> str:
        """The folder of the log."""
        return self.cdc_raw

    def look(self, data_folders: Sequence[str] | None = None) -> Seen:
        """Of the files and of Java; with `data_folders`, of what a copy needs, too."""
        missing = jars.missing()
        if self.cassandra_home and "mvn" in missing:
            missing = ""  # not needed
        readable, used, there = _readable(self.cdc_raw), 0, Segments()
        if readable:
            try:
                there = self.segments()
                used = sum(map(_bytes, Path(self.cdc_raw).iterdir()))
            except (SourceRefused, OSError):
                readable = False  # nor are the files in it
        looked: tuple[str, ...] = ()
        problem = ""
        if data_folders is not None:
            looked = self.data_folders or tuple(data_folders)
            problem = jmx_problem(self.jmx)
        return Seen(
            java=missing,
            jars=self.cassandra_home or f"jars of Cassandra {jars.version()}",
            cdc_raw=self.cdc_raw,
            readable=readable,
            used_bytes=used,
            segments=there,
            deletes=self.deletes,
            jmx=self.jmx,
            jmx_problem=problem,
            data_folders=looked,
            unread=tuple(folder for folder in looked if not _readable(folder)),
        )

    def read_log(self, schema: str, start: LogPosition | None) -> LocalChild:
        """Start the reader of the log. Raises SourceRefused."""
        if not self.cdc_raw:
            raise SourceRefused("cdc_raw is not set: see `check`")
        return self._started(schema, "log", ["--from", str(start)] if start else [])

    def read_table(self, schema: str, copied: Copied) -> LocalChild:
        """Start the reader of a table's files. Raises SourceRefused."""
        asked = [copied.keyspace, copied.table, copied.tag, self.jmx]
        asked.append(":".join(self.data_folders) or "-")
        if copied.after is not None:
            asked += ["--after", str(copied.after)]
        return self._started(schema, f"copy-{copied.keyspace}.{copied.table}", ["--copy", *asked])

    def segments(self) -> Segments:
        """The log's files. Raises SourceRefused."""
        return segments(Path(self.cdc_raw))

    def forget(self, position: LogPosition) -> None:
        """Delete what lies wholly before a position."""
        forget(Path(self.cdc_raw), position)

    def _started(self, schema: str, name: str, options: list[str]) -> LocalChild:
        classpath = jars.classpath(self.cassandra_home)
        folder = folders.fresh(self.folder, name)
        try:
            (folder / "schema.json").write_text(schema, encoding="utf-8")
            return LocalChild([*self._command(classpath, folder), *options], folder)
        except BaseException:
            folders.remove(folder)
            raise

    def _command(self, classpath: str, folder: Path) -> list[str]:
        options = [f"@{jars.JAVA_FOLDER / 'jvm.options'}"]
        run = programs.command("CommitLogTail.java", classpath, self.memory, folder, options)
        return [*run, self.cdc_raw or "-", str(folder / "schema.json"), "--poll", str(POLL_MS)]


class LocalChild:
    """A `machine.Child` of this process, with a folder of its own."""

    def __init__(self, command: list[str], folder: Path) -> None:
        """Start it."""
        self._folder = folder
        self._said = ""
        self._listener: threading.Thread | None = None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def said(self) -> str:
        """The last line of its standard error."""
        return self._said

    def lines(self) -> Generator[bytes, None, None]:
        """Its standard output. Its standard error goes to our log meanwhile."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._listener = threading.Thread(
            target=self._listen, args=(self.process.stderr,), daemon=True
        )
        self._listener.start()
        with self.process.stdout as stream:
            yield from stream

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._said = line.decode(errors="replace").strip() or self._said
                _log.info("log reader: %s", self._said)

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        code = self.process.wait()
        if self._listener is not None:
            self._listener.join(STOP_SECONDS_MAX)
        return code

    def end(self) -> None:
        """Its input ends, and so does it; a reader that does not is killed. Safe to call twice."""
        process = self.process
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._listener is not None:
            self._listener.join(STOP_SECONDS_MAX)
        folders.remove(self._folder)


def jmx_problem(address: str) -> str:
    """Why nothing answers at a node's JMX (host:port), "" = something does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), JMX_SECONDS_MAX).close()
    except OSError as error:
        return str(error)
    return ""


def _readable(folder: str) -> bool:
    return bool(folder) and os.access(folder, os.R_OK | os.X_OK)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted meanwhile
        return 0
