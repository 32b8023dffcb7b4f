"""A load of rows into a table: read and checked, then written, then read back.

All rows are read, converted and checked before the first is written. They are kept on disk until
the load is done, so one that was interrupted goes on with the same rows, at the same time: what
others have written since its beginning stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from htapkit.model import TableId
from htapkit_cassandra import destination, folders, readback, spool
from htapkit_cassandra.cluster import session
from htapkit_cassandra.destination import Destination
from htapkit_cassandra.fitting import LoadRefused, Target
from htapkit_cassandra.here import jmx_problem
from htapkit_cassandra.inputs import Input
from htapkit_cassandra.jars import classpath
from htapkit_cassandra.journal import Journal, State
from htapkit_cassandra.readback import Compared
from htapkit_cassandra.reading import RowsRejected, read_in
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.sstables import FilesMade, Job, running
from htapkit_cassandra.writes import Writer

SMALL_ROWS_MAX: Final = 50_000
"""So many rows are written over CQL where nothing is said: for files a program has to start."""
_NOTED_ROWS: Final = 10_000
Told = Callable[[str, int, int | None], None]
"""What is being done; how many rows of it, of how many."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How rows are loaded."""

    method: str = "auto"  # auto, cql or sstable
    consistency: str = "LOCAL_QUORUM"
    rejected_max: int = 0
    compared_max: int | None = None  # None: all rows are read back
    rows_per_second_max: int | None = None  # over CQL
    written_at: int | None = None  # microseconds; None: when the load began
    folder: Path | None = None  # for SSTables, as the node sees it, too; None: beside the rows


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows that can be written."""

    to: Destination
    targets: tuple[Target, ...]  # the columns that are given
    state: State
    method: str  # cql or sstable
    reasons: tuple[str, ...]  # of the first rows that were rejected

    @property
    def resumed(self) -> bool:
        """Whether it was interrupted before."""
        return self.state.attempt > 0

    @property
    def read_at(self) -> datetime:
        """When its rows were read, to the second."""
        return datetime.fromtimestamp(self.state.read_at, UTC)

    @property
    def untouched(self) -> tuple[str, ...]:
        """Columns that are not given: what they hold stays."""
        return tuple(t.name for t in self.to.targets if t not in self.targets)

    @property
    def relisted(self) -> bool:
        """Whether a list is written element by element: at the same time again, it is doubled."""
        return any(t.type.name == "list" and bool(t.type.brackets) for t in self.targets)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was done."""

    seconds: float  # without reading back
    files: FilesMade | None  # None: over CQL
    compared: Compared


class Load:
    """One load of one table. Use within `with load.locked()`."""

    def __init__(self, settings: Settings, folder: Path, table: TableId, wanted: Wanted) -> None:
        """`folder` keeps the rows and how far they are written."""
        self._settings = settings
        self._table = table
        self._wanted = wanted
        self._journal = Journal(folder.absolute() / f"{table.schema}.{table.name}")

    @property
    def rejects(self) -> Path:
        """The file that says which rows were rejected, and why."""
        return self._journal.rejects

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else loads the table meanwhile. Raises LoadBusy."""
        return self._journal.locked()

    def forget(self) -> None:
        """Give up a load that was interrupted."""
        self._journal.clear()

    def prepare(self, given: Input, told: Told) -> Prepared:
        """Read all rows and check them; or find those of the load that was interrupted.

        What is not written then is forgotten. Raises LoadRefused, LimitReached, SourceError, and
        what `given` raises; nothing was written.
        """
        to = destination.find(self._settings, self._table)
        former = self._journal.read()
        if former is not None:
            return self._resumed(to, former, given)
        self._journal.clear()
        return self._read(to, given, told)

    def _read(self, to: Destination, given: Input, told: Told) -> Prepared:
        now = time.time_ns()
        found = read_in(
            to,
            given,
            self._journal.rows,
            self._journal.rejects,
            lambda rows: told("read", rows, None),
        )
        if found.rejected > self._wanted.rejected_max:
            raise RowsRejected(
                f"{self._table}: {found.rejected:,} rows cannot be taken, and nothing was written: "
                f"{'; '.join(found.reasons)}; all of them: {self.rejects}"
            )
        columns = tuple(target.name for target in found.targets)
        state = State(
            given.identity,
            to.id,
            columns,
            found.rows,
            found.rejected,
            read_at=now // 10**9,
            written_at=self._wanted.written_at or now // 1000,
        )
        return self._prepared(to, state, found.reasons)

    def _resumed(self, to: Destination, former: State, given: Input) -> Prepared:
        if former.input != given.identity:
            raise LoadRefused(
                f"{self._table}: a load of other rows was interrupted ({former.written:,} of "
                f"{former.rows:,} are known to be written); repeat it, or give it up with --restart"
            )
        known = {target.name for target in to.targets}
        if to.id != former.table_id or not known >= set(former.columns):
            raise LoadRefused(
                f"{self._table} is another table than the one whose load was interrupted; "
                "give that up with --restart"
            )
        if self._wanted.written_at not in {None, former.written_at}:
            raise LoadRefused(
                f"{self._table}: the load that was interrupted writes at {former.written_at}, not "
                f"at {self._wanted.written_at}; repeat it at its own time, or give it up with "
                "--restart"
            )
        return self._prepared(to, replace(former, attempt=former.attempt + 1), ())

    def _prepared(self, to: Destination, state: State, reasons: tuple[str, ...]) -> Prepared:
        by_name = {target.name: target for target in to.targets}
        method, small = self._wanted.method, state.rows <= SMALL_ROWS_MAX
        if method == "auto":
            method = "cql" if small or self._no_files(to) else "sstable"
        elif method == "sstable" and (why := self._no_files(to)):
            raise LoadRefused(f"{self._table}: {why}; load with --method cql")
        return Prepared(to, tuple(by_name[name] for name in state.columns), state, method, reasons)

    @property
    def _beside(self) -> Settings | None:
        """The first node that is on this machine, or whose JMX and folders are seen from it."""
        return next((one for one in self._settings.each() if not one.agent), None)

    def _no_files(self, to: Destination) -> str:
        """Why files may not be loaded, "" = they may."""
        node = self._beside
        if node is None:
            return "each of its nodes has an agent, and files need one beside us"
        if problem := jmx_problem(node.jmx):
            return f"nothing answers over JMX at {node.jmx} ({problem})"
        return destination.no_files(self._settings, to)

    def write(self, prepared: Prepared, told: Told) -> Loaded:
        """Write the rows, and read them back.

        Raises LoadRefused, SourceError; then the same load can be repeated, and goes on.
        """
        state, begun = prepared.state, time.monotonic()
        self._journal.write(state)  # from here on it may be interrupted
        at = state.written_at + (state.attempt if prepared.relisted else 0)
        files = None
        if state.rows and prepared.method == "cql":
            self._over_cql(prepared, at, told)
        elif state.rows:
            files = self._as_files(prepared, at, told)
        seconds = time.monotonic() - begun
        compared = readback.compare(
            self._settings,
            prepared.to,
            prepared.targets,
            (self._journal.rows, state.rows),
            (self._wanted.consistency, self._wanted.compared_max),
            lambda done, of: told("compared", done, of),
        )
        self._journal.clear(but_rejects=True)
        return Loaded(seconds, files, compared)

    def _over_cql(self, prepared: Prepared, at: int, told: Told) -> None:
        state, names = prepared.state, prepared.state.columns
        begun, done = time.monotonic(), 0
        with session(self._settings) as opened:
            writer = Writer(
                self._settings,
                opened,
                prepared.to.insert(names, "?"),
                self._wanted.consistency,
                at,
                again=not prepared.relisted,
            )
            for rows in spool.chunks(self._journal.rows, len(names), state.rows):
                done += len(rows)
                if done <= state.written:
                    continue
                writer.write(rows)
                if done // _NOTED_ROWS > (done - len(rows)) // _NOTED_ROWS:
                    self._journal.write(replace(state, written=done))
                told("written", done, state.rows)
                self._pace(begun, done - state.written)

    def _pace(self, begun: float, rows: int) -> None:
        wanted = self._wanted.rows_per_second_max
        if wanted:
            time.sleep(max(0.0, begun + rows / wanted - time.monotonic()))

    def _as_files(self, prepared: Prepared, at: int, told: Told) -> FilesMade:
        state, node = prepared.state, self._beside
        assert node is not None, "otherwise there are no files"
        folder = folders.fresh(
            self._wanted.folder or self._journal.folder, f"files-{self._table}-{state.written_at}"
        )
        job = Job(classpath(node.cassandra_home), folder, node.helper_memory, node.jmx)
        done = 0
        try:
            with running(job, prepared.to, state.columns, at) as program:
                for count, raw in spool.raw_chunks(
                    self._journal.rows, len(state.columns), state.rows
                ):
                    program.send(raw)
                    done += count
                    told("made into files", done, state.rows)
                return program.finish(
                    state.rows, loading=lambda: told("loading", state.rows, state.rows)
                )
        finally:
            folders.remove(folder)
