"""The suite of a Source whose snapshots are Resumable, beside what every Source must pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import pyarrow as pa

from htapkit.model import Split, TableId
from htapkit.resumable import Resumable
from htapkit.spi import Snapshot
from htapkit.testing.contract import Harness, SourceContract, Write
from htapkit.testing.follower import Follower


class ResumableContract(SourceContract):
    """Inherit it instead of `SourceContract`."""

    def test_a_copy_goes_on_under_another_snapshot(self, harness: Harness) -> None:
        """Each part under a snapshot of its own, with changes before each, and the stream."""
        source, table = harness.source, harness.table("first")
        schema = self._found(harness)["first"].schema
        harness.transaction([Write("first", n, "old") for n in range(100)])
        follower = Follower([schema])
        with self._stream(harness, None, [schema]) as stream:
            left, fingerprint = self._begun(harness, table)
            while left:
                number = len(left)
                harness.transaction([Write("first", number, delete=True)])
                harness.transaction([Write("first", n, f"new {number}") for n in (-number, 50)])
                with closing(source.snapshot([table], {})) as snapshot:
                    assert isinstance(snapshot, Resumable)
                    assert not snapshot.goes_on(table, fingerprint)
                    left = [*self._load_one(snapshot, left[0], follower), *left[1:]]
            self._until(harness, stream, follower)
        assert follower.rows(table) == harness.rows("first")

    def _begun(self, harness: Harness, table: TableId) -> tuple[Sequence[Split], str]:
        """The splits of a copy, and its fingerprint, which is that of an unchanged table."""
        source = harness.source
        with closing(source.snapshot([table], {})) as snapshot:
            assert isinstance(snapshot, Resumable)
            begun = snapshot.begin(table)
            now, fingerprint = self._found(harness)["first"], begun.table.fingerprint
            assert source.compare(begun.table.schema, fingerprint, now) is None
            assert source.positions.covers(snapshot.position, begun.position)
            return list(snapshot.splits(table)), fingerprint

    @staticmethod
    def _load_one(snapshot: Snapshot, split: Split, follower: Follower) -> list[Split]:
        """Take the first part of a split; what is left of it."""
        assert isinstance(snapshot, Resumable)
        for part in snapshot.parts(split):
            if isinstance(part, Split):
                return [part]
            assert isinstance(part, pa.RecordBatch)
            follower.load(split.table, part)
        return []
