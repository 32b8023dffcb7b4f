"""The program that reads one node's log, kept running: started again where it stopped.

It is Cassandra's own reader in a process of its own (java/CommitLogTail.java). What it cannot read
stops it; nothing is ever skipped. Its standard error goes to our log.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from htapkit.errors import PositionLost, SourceError, SourceRefused
from htapkit_cassandra import folders
from htapkit_cassandra.jars import JAVA_FOLDER
from htapkit_cassandra.mutations import Lines, LogEvent, LogPosition, Mutation, Ready, Synced
from htapkit_cassandra.waiting import Waiting

# Exit codes of CommitLogTail.java.
UNDECODABLE = 4
UNKNOWN_TABLE = 5
POSITION_LOST = 6
BAD_SCHEMA = 7
_OLD_SCHEMA = (UNDECODABLE, UNKNOWN_TABLE, BAD_SCHEMA)

PAUSE_SECONDS_FIRST = 0.2
PAUSE_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 15.0  # it clears a copy's snapshot at the node, and has 10 of them for that
POLL_MS = 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Program:
    """How the reader is run."""

    classpath: str
    cdc_raw: Path
    memory: str = "512MB"
    queue_bytes_max: int = 32 * 2**20  # of what it has read and nobody has taken
    folder: Path | None = None  # where its files lie; None: among the temporary ones

    def command(
        self, schema: Path, start: LogPosition | None, copied: Sequence[str] = ()
    ) -> list[str]:
        """The command line; `nice`, because the node beside it matters more.

        `copied`: not the log, but the files of one table, as CommitLogTail.java takes it.
        """
        memory = self.memory.removesuffix("B").lower()
        options = ["jvm.options", "opens.options"]
        command = ["nice", "java", f"-Xmx{memory}", f"-Djava.io.tmpdir={schema.parent}"]
        command += [f"-Dlogback.configurationFile={JAVA_FOLDER / 'logback.xml'}"]
        command += [f"@{JAVA_FOLDER / name}" for name in options]
        command += ["-cp", self.classpath, str(JAVA_FOLDER / "CommitLogTail.java")]
        command += [str(self.cdc_raw), str(schema), "--poll", str(POLL_MS)]
        command += ["--copy", *copied] if copied else []
        return command + (["--from", str(start)] if start else [])


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of a run."""

    code: int
    said: str


class Run:
    """One process: its output as events in a queue that ends with `Ended`."""

    def __init__(
        self, command: list[str], queue_bytes_max: int, news: threading.Event | None = None
    ) -> None:
        """Start it; `news` is set with each event."""
        self.events: Waiting[LogEvent | Ended | SourceRefused] = Waiting(queue_bytes_max, news)
        self._said = ""
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._said = line.decode(errors="replace").strip() or self._said
            _log.info("log reader: %s", self._said)

    def _read(self, stream: IO[bytes]) -> None:
        lines = Lines()
        for line in stream:
            if not line.endswith(b"\n"):
                break  # it died while it wrote
            try:
                event = lines.feed(line)
            except SourceRefused as refused:
                self.events.put(refused, 0)
                break
            if event is not None:
                self.events.put(event, event.size if isinstance(event, Mutation) else 0)
        code = self.process.wait()
        self._threads[1].join(STOP_SECONDS_MAX)
        self.events.put(Ended(code, self._said), 0)

    def stop(self) -> None:
        """End it. Safe to call twice."""
        self.events.close()
        process = self.process
        if process.stdin is not None:
            process.stdin.close()  # it ends by itself
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for thread in self._threads:
            thread.join(STOP_SECONDS_MAX)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


class LogTail:
    """The events of one node's log from a position on. One thread calls `next`.

    Mutations come in the log's order, each once within a tail; a new tail starts right after its
    position. A reader that dies is started again behind the last event that was given out.
    """

    def __init__(
        self,
        program: Program,
        schema: Callable[[], str],
        start: LogPosition | None = None,
        news: threading.Event | None = None,
    ) -> None:
        """`schema` asks the node for its schema; `start` None: from the oldest that is there.

        `news` is set when `next` may have something.
        """
        self._program = program
        self._news = news
        self._schema = schema
        self._folder = folders.fresh(program.folder, "log")
        self._run: Run | None = None
        self._pause = 0.0
        self._not_before = 0.0
        self._stopped_at: object = object()  # where the schema was read anew to get further
        self.position = start
        self.restarts = 0
        self.why = ""  # why nothing comes now, "" = it is being read
        self.dropped: set[str] = set()  # ids of tables that the log has and the node has no more

    @property
    def pid(self) -> int | None:
        """The reader's process id while it runs."""
        return self._run.process.pid if self._run else None

    @property
    def due(self) -> bool:
        """Whether its reader does not run, and is to be started by now."""
        return self._run is None and time.monotonic() >= self._not_before

    @property
    def queued_bytes(self) -> int:
        """How many bytes were read and not given out."""
        run = self._run
        return run.events.bytes if run else 0

    def next(self, timeout_seconds: float) -> LogEvent | None:
        """The next event, or None when none came in time.

        Raises PositionLost (the node's files after the position are gone) and SourceRefused (what
        comes next cannot be read, and the message says where it stands).
        """
        if self._run is None:
            wait = self._not_before - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, timeout_seconds))
                return None
            self.start()
        assert self._run is not None
        event = self._run.events.get(timeout_seconds)
        if event is None:
            return None
        if isinstance(event, SourceRefused):
            raise event
        if isinstance(event, Ended):
            self._ended(event)
            return None
        if not isinstance(event, Ready):
            self.position = event.position
            self._pause, self.why = 0.0, ""
        return event

    def start(self) -> None:
        """Start its reader, which takes as long as the node takes to tell its schema.

        Not beside `next`. Raises SourceError; it is due again later.
        """
        schema = self._folder / "schema.json"
        try:
            text = json.loads(self._schema())
        except SourceError as error:
            self.why = str(error)
            self._rest()
            raise
        text["ignored"] += sorted(self.dropped)
        schema.write_text(json.dumps(text), encoding="utf-8")
        program = self._program
        command = program.command(schema, self.position)
        self._run = Run(command, program.queue_bytes_max, self._news)

    def _rest(self) -> None:
        self._not_before = time.monotonic() + self._pause
        self._pause = min(max(self._pause * 2, PAUSE_SECONDS_FIRST), PAUSE_SECONDS_MAX)

    def _ended(self, ended: Ended) -> None:
        assert self._run is not None
        self._run.stop()
        self._run = None
        where = f"the log in {self._program.cdc_raw} after {self.position or 'its start'}"
        if ended.code == POSITION_LOST:
            raise PositionLost(f"{where}: {ended.said}")
        if ended.code in _OLD_SCHEMA:
            again = self._stopped_at == self.position
            unknown = re.search(r"table id (\S+) is not", ended.said)
            if again and unknown is not None and unknown[1] not in self.dropped:
                # The schema is newer than the mutation and does not have it: it was dropped.
                self.dropped.add(unknown[1])
            elif again:
                raise SourceRefused(f"cannot read {where}: {ended.said}")
            # Perhaps the schema is older than what was written: once more, with the present one.
            self._stopped_at = self.position
        self.restarts += 1
        self.why = f"the reader of its log ended with code {ended.code}: {ended.said}"
        _log.warning("%s: %s", self._program.cdc_raw, self.why)
        self._rest()

    def close(self) -> None:
        """End the reader. Safe to call twice."""
        if self._run is not None:
            self._run.stop()
            self._run = None
        folders.remove(self._folder)


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


def behind(cdc_raw: Path, position: LogPosition | None) -> int:
    """Bytes that the node has synced of CDC tables behind a position."""
    end = newest(cdc_raw)
    if end is None or (position is not None and end <= position):
        return 0
    if position is None or end.segment == position.segment:
        return end.offset - (position.offset if position else 0)
    left = -position.offset
    for segment, log in _segments(cdc_raw):
        if position.segment <= segment < end.segment:
            with suppress(FileNotFoundError):  # deleted meanwhile
                left += log.stat().st_size
    return max(0, left) + end.offset


def forget(cdc_raw: Path, position: LogPosition) -> None:
    """Delete the node's files of segments that lie wholly before a position."""
    for segment, log in _segments(cdc_raw):
        if segment < position.segment:
            log.unlink(missing_ok=True)
            log.with_name(f"{log.stem}_cdc.idx").unlink(missing_ok=True)


def _segments(cdc_raw: Path) -> list[tuple[int, Path]]:
    found = [(re.search(r"-(\d+)\.log$", log.name), log) for log in cdc_raw.glob("*.log")]
    return sorted((int(name[1]), log) for name, log in found if name is not None)


__all__ = ["LogTail", "Mutation", "Program", "Synced", "newest"]
