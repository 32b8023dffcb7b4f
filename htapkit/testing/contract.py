"""The suite that every Source must pass.

A connector's author inherits `SourceContract` and gives a harness.

The harness owns a database with two tables, `first` and `second`, each (id int4 key, v text), and
can change them. The model is a dict; what the contract says stands on the Protocols in
`htapkit.spi`. What a source with reconciled tables does not promise, whole transactions and
TRUNCATE in the stream, are tests of their own, which it skips with the reason; that a TRUNCATE is
found all the same is one that the others skip.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

import pyarrow as pa
import pytest

from htapkit.errors import PositionLost, SourceRefused
from htapkit.model import Broken, Position, TableId, TableSchema
from htapkit.spi import ChangeStream, Discovered, Ranged, Source
from htapkit.testing.follower import Covered, Follower, covers_nothing
from htapkit.testing.merged import Rows

QUIET_SECONDS = 10.0  # a source may write something by itself after 15


@dataclass(frozen=True, slots=True)
class Write:
    """One change: `value` None with `delete` false is a NULL; `new_id` moves the row."""

    table: str  # "first" or "second"
    id: int
    value: str | None = None
    delete: bool = False
    new_id: int | None = None


class Harness(Protocol):
    """A database that the suite may change."""

    @property
    def source(self) -> Source:
        """Over that database."""
        ...

    def table(self, name: str) -> TableId:
        """The TableId of `first` or `second`."""
        ...

    def transaction(self, writes: Sequence[Write]) -> None:
        """Insert, update (an id that is there) or delete, all in one commit.

        Where the source has no transactions, one after the other; where no key can be changed, a
        row with a `new_id` is deleted and inserted.
        """
        ...

    def truncate(self, table: str) -> None:
        """Empty a table in a commit of its own."""
        ...

    def rows(self, table: str) -> Rows:
        """What is there now."""
        ...

    def lose_position(self) -> None:
        """Make the source forget what was not confirmed."""
        ...


class SourceContract:
    """Inherit, and give a fixture `harness`."""

    marks: ClassVar[bool] = True
    """Whether marks come back (Head.mark); false: the stream reaches the head whatever happens."""

    seconds: ClassVar[float] = 30.0
    """How long what was committed may take to come."""

    @pytest.fixture
    def harness(self) -> Harness:
        """The connector's own."""
        raise NotImplementedError

    # -- what the tests are made of

    def _schemas(self, harness: Harness) -> list[TableSchema]:
        return [d.schema for d in self._found(harness).values()]

    def _found(self, harness: Harness) -> Mapping[str, Discovered]:
        found = {d.schema.table: d for d in harness.source.discover()}
        return {name: found[harness.table(name)] for name in ("first", "second")}

    @contextmanager
    def _stream(
        self, harness: Harness, start: Position | None, tables: Sequence[TableSchema] | None = None
    ) -> Iterator[ChangeStream]:
        chosen = self._schemas(harness) if tables is None else tables
        stream = harness.source.follow(start, chosen)
        try:
            yield stream
        finally:
            stream.close()

    def _until(
        self,
        harness: Harness,
        stream: ChangeStream,
        follower: Follower,
        covered: Covered = covers_nothing,
    ) -> None:
        """Apply batches until all that is committed now is applied."""
        reached = self._awaited(harness, follower)
        deadline = time.monotonic() + self.seconds
        while not reached():
            assert time.monotonic() < deadline, "what was committed did not come"
            batch = stream.next(0.05)
            if batch is None:
                stream.nudge()
                continue
            have, covers = follower.position, harness.source.positions.covers
            if have is not None and batch.complete and batch.changes:
                assert not covers(have, batch.end), "a copy would take this batch for known"
            follower.apply(batch, covered)

    def _awaited(self, harness: Harness, follower: Follower) -> Callable[[], bool]:
        """Whether all that is committed now is applied: its mark has come, or the head is reached.

        Where there are marks the head may be a place that the stream never shows.
        """
        head, covers = harness.source.head, harness.source.positions.covers
        if self.marks:
            head.mark(token := f"until-{time.monotonic_ns()}")
            return lambda: token in follower.marks
        want = head.head()
        return lambda: follower.position is not None and covers(follower.position, want)

    def _equal(self, harness: Harness, follower: Follower) -> None:
        for name in ("first", "second"):
            assert follower.rows(harness.table(name)) == harness.rows(name), name

    def _transactional(self, harness: Harness, promise: str) -> list[TableSchema]:
        """The tables, where the source has transactions."""
        schemas = self._schemas(harness)
        if all(schema.reconciled for schema in schemas):
            pytest.skip(f"this source's tables are reconciled: {promise}")
        return schemas

    # -- the contract

    def test_check_finds_nothing_wrong(self, harness: Harness) -> None:
        """The harness is a proper source: no error among the findings."""
        errors = [f for f in harness.source.check() if f.severity == "error"]
        assert not errors

    def test_knows_itself_again_and_no_other(self, harness: Harness) -> None:
        """What is stored of a source is known again, also after another one was refused."""
        identity = harness.source.identity()
        with pytest.raises(SourceRefused):
            harness.source.identity(f"not {identity}")
        assert harness.source.identity(identity) == identity

    def test_discovers_tables_with_keys_and_types(self, harness: Harness) -> None:
        """Both tables, their columns in order, their key."""
        for found in self._found(harness).values():
            assert [c.name for c in found.schema.columns] == ["id", "v"]
            assert [c.type.name for c in found.schema.columns] == ["int4", "text"]
            assert found.schema.key == ("id",)
            assert not found.problem
            assert found.fingerprint

    def test_an_unchanged_table_compares_as_unchanged(self, harness: Harness) -> None:
        """Neither time nor rows change a fingerprint."""
        before = self._found(harness)["first"]
        harness.transaction([Write("first", 1, "x")])
        now = self._found(harness)["first"]
        assert harness.source.compare(before.schema, before.fingerprint, now) is None

    def test_streams_every_kind_of_change(self, harness: Harness) -> None:
        """Insert, update, delete, key change, NULL, over two tables."""
        schemas = self._schemas(harness)
        with self._stream(harness, None) as stream:
            follower = Follower(schemas)
            harness.transaction([Write("first", n, f"v{n}") for n in range(20)])
            harness.transaction([Write("first", 3, None), Write("second", 3, "s")])
            harness.transaction([Write("first", 4, delete=True), Write("first", 5, "m", new_id=50)])
            harness.transaction([Write("first", 4, "again"), Write("second", 3, delete=True)])
            self._until(harness, stream, follower)
            self._equal(harness, follower)

    def test_streams_a_truncate(self, harness: Harness) -> None:
        """It empties the table, and what is written behind it stays."""
        schemas = self._transactional(harness, "its stream does not show TRUNCATE")
        with self._stream(harness, None) as stream:
            follower = Follower(schemas)
            harness.transaction([Write(t, n, "v") for t in ("first", "second") for n in range(9)])
            harness.truncate("first")
            harness.transaction([Write("first", 7, "after")])
            self._until(harness, stream, follower)
            self._equal(harness, follower)

    def test_a_truncate_that_no_stream_shows_is_found(self, harness: Harness) -> None:
        """Comparing says that this table must be copied again, and no other."""
        before = self._found(harness)
        if not before["first"].schema.reconciled:
            pytest.skip("this source's stream shows TRUNCATE")
        harness.truncate("first")
        now, compare = self._found(harness), harness.source.compare
        found = {n: compare(old.schema, old.fingerprint, now[n]) for n, old in before.items()}
        assert isinstance(found["first"], Broken)
        assert found["first"].copy_again
        assert found["second"] is None

    def test_batches_hold_whole_transactions(self, harness: Harness) -> None:
        """Both tables get a row in each transaction: no batch ends between the two."""
        schemas = self._transactional(harness, "nothing is whole but one row's write")
        with self._stream(harness, None) as stream:
            follower = Follower(schemas)
            for n in range(200):
                harness.transaction([Write("first", n, "a"), Write("second", n, "b")])
            self._until(harness, stream, follower)
            assert all(len(set(total.values())) == 1 for total in follower.totals)
            self._equal(harness, follower)

    def test_resumes_right_after_a_position(self, harness: Harness) -> None:
        """A second stream from where the first one stopped: nothing twice, nothing lost."""
        schemas = self._schemas(harness)
        follower = Follower(schemas)
        with self._stream(harness, None) as stream:
            harness.transaction([Write("first", n, "a") for n in range(10)])
            self._until(harness, stream, follower)
            assert follower.position is not None
            stream.confirm(follower.position)
        harness.transaction([Write("first", 3, delete=True), Write("first", 11, "b")])
        with self._stream(harness, follower.position) as stream:
            self._until(harness, stream, follower)
        self._equal(harness, follower)

    def test_what_is_not_confirmed_comes_again(self, harness: Harness) -> None:
        """From an older, unconfirmed position the same commits come once more."""
        schemas = self._schemas(harness)
        with self._stream(harness, None) as stream:
            first = Follower(schemas)
            self._until(harness, stream, first)
            start = first.position
            assert start is not None
            stream.confirm(start)
            harness.transaction([Write("first", n, "a") for n in range(10)])
            self._until(harness, stream, first)
        again = Follower(schemas)
        with self._stream(harness, start) as stream:
            self._until(harness, stream, again)
        self._equal(harness, again)

    def test_snapshot_and_stream_meet_exactly(self, harness: Harness) -> None:
        """Rows of a snapshot at S plus the commits after S, while somebody writes all the time."""
        schemas = self._schemas(harness)
        harness.transaction([Write("first", n, "old") for n in range(500)])
        follower = Follower(schemas)
        with self._stream(harness, None) as stream:
            with self._writing(harness):
                snapshot = harness.source.snapshot([s.table for s in schemas], {})
                for schema in schemas:
                    for split in snapshot.splits(schema.table):
                        for batch in snapshot.read(split):
                            follower.load(schema.table, batch)
                position = snapshot.position
                snapshot.close()
            covers = harness.source.positions.covers
            self._until(harness, stream, follower, lambda commit, _: covers(position, commit))
            self._equal(harness, follower)

    def test_ranges_and_stream_meet_exactly(self, harness: Harness) -> None:
        """Each range in a snapshot of its own plus the commits after it, while somebody writes."""
        source, table = harness.source, harness.table("first")
        if not isinstance(source, Ranged):
            pytest.skip("this source reads no table range by range")
        schema = self._found(harness)["first"].schema
        harness.transaction([Write("first", n, "old") for n in range(500)])
        found = source.ranges([table, harness.table("second")], 50)
        assert found.keys() == {table}, "an empty table is not large"
        ranges, follower = found[table], Follower([schema])
        assert len(ranges) > 1
        positions = []
        with self._stream(harness, None, [schema]) as stream:
            with self._writing(harness):
                for split in ranges:
                    snapshot = source.snapshot([table], {})
                    for batch in snapshot.read(split):
                        follower.load(table, batch)
                    positions.append(snapshot.position)
                    snapshot.close()

            def covered(commit: Position, key: int) -> bool:
                keys = pa.record_batch([pa.array([key], pa.int32())], names=["id"])
                number = source.place(ranges, keys)[0].as_py()
                return source.positions.covers(positions[number], commit)

            self._until(harness, stream, follower, covered)
        assert follower.rows(table) == harness.rows("first")

    @contextmanager
    def _writing(self, harness: Harness) -> Iterator[None]:
        begun, stop = threading.Event(), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(self._write_on, harness, begun, stop)
            try:
                assert begun.wait(self.seconds), "nothing was written"
                yield
            finally:
                stop.set()
            written.result(self.seconds)

    @staticmethod
    def _write_on(harness: Harness, begun: threading.Event, stop: threading.Event) -> None:
        number = 1000
        while not stop.is_set() and number < 3000:
            number += 1
            new = [Write(table, number, "new") for table in ("first", "second")]
            harness.transaction([*new, Write("first", number % 500, f"changed {number}")])
            gone = Write("first", number, delete=True)
            moved = Write("first", number, "moved", new_id=-number)
            harness.transaction([moved if number % 2 else gone])
            begun.set()

    def test_positions_are_ordered(self, harness: Harness) -> None:
        """Later heads cover earlier ones, and not the other way round after a commit."""
        with self._stream(harness, None):  # attaching may make what the head is asked with
            before = harness.source.head.head()
            harness.transaction([Write("first", 1, "x")])
            after = harness.source.head.head()
        covers = harness.source.positions.covers
        assert covers(after, before)
        assert covers(before, before)
        assert not covers(before, after)
        with pytest.raises(ValueError):  # noqa: PT011 - each source has words of its own
            covers(after, Position("no position"))

    def test_a_quiet_source_says_where_a_new_stream_begins(self, harness: Harness) -> None:
        """Asked once, it gives a position though nothing was written: a copy waits for that."""
        with self._stream(harness, None) as stream:
            stream.nudge()
            self._moved(stream)

    def test_a_nudge_brings_the_position(self, harness: Harness) -> None:
        """While nothing changes in our tables the position still moves."""
        only = [s for s in self._schemas(harness) if s.table == harness.table("second")]
        with self._stream(harness, None, only) as stream:
            self._until(harness, stream, Follower(only))
            harness.transaction([Write("first", 1, "x")])
            stream.nudge()
            self._moved(stream)

    def _moved(self, stream: ChangeStream) -> None:
        deadline = time.monotonic() + QUIET_SECONDS
        while (batch := stream.next(0.1)) is None:
            assert time.monotonic() < deadline, "no position came"
        assert batch.row_count == 0
        assert batch.complete

    def test_expect_leaves_tables_out(self, harness: Harness) -> None:
        """Changes of a table that is not expected do not come."""
        schemas = self._schemas(harness)
        only = [s for s in schemas if s.table == harness.table("second")]
        with self._stream(harness, None) as stream:
            stream.expect(only)
            follower = Follower(only)
            harness.transaction([Write("first", 1, "x"), Write("second", 1, "y")])
            self._until(harness, stream, follower)
        assert follower.rows(harness.table("second")) == {1: "y"}

    def test_a_lost_position_is_said(self, harness: Harness) -> None:
        """Following from a position whose changes are gone raises PositionLost."""
        with self._stream(harness, None) as stream:
            follower = Follower(self._schemas(harness))
            self._until(harness, stream, follower)
        harness.lose_position()
        with pytest.raises(PositionLost), self._stream(harness, follower.position) as stream:
            self._until(harness, stream, Follower(self._schemas(harness)))

    def test_detach_is_safe_to_repeat(self, harness: Harness) -> None:
        """Twice is as good as once."""
        with self._stream(harness, None):
            pass
        harness.source.detach()
        harness.source.detach()
