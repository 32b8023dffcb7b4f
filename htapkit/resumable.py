"""Copies that go on after they were cut short: what a snapshot of reconciled tables may be for it.

Cells may come in any order and number, so parts of a copy may be of different moments, and what was
read stays through a kill, a restart or a source that was away. What makes that exact is said here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyarrow as pa

from htapkit.model import Position, Split, TableId
from htapkit.spi import Discovered


@dataclass(frozen=True, slots=True)
class Begun:
    """A copy as it begins. It is kept so, and is what a table that was copied is compared as."""

    table: Discovered  # the fingerprint may say more than the snapshot's: how the copy is made
    position: Position  # what any part gives, whenever it is read, has all changes up to it


@runtime_checkable
class Resumable(Protocol):
    """What a Snapshot may be, too: one of reconciled tables, whose copies go on under a later one.

    Changes since the copy began are in the stream, or in the parts that were read after them. A
    copy is only gone on with while the stream went on, and `compare` finds the table as it was.
    """

    def begin(self, table: TableId) -> Begun:
        """Begin a copy of one of its tables; all its `splits` are then to be read."""

    def goes_on(self, table: TableId, fingerprint: str) -> str:
        """Why a copy that began with `fingerprint` cannot go on under this snapshot; "" = it can.

        Then the splits that are left may be read here as well. Called once, before they are.
        """

    def parts(self, split: Split) -> Iterator[pa.RecordBatch | Split]:
        """As `Snapshot.read`; a Split among the batches is all that is still to come.

        Its `rows_estimate` is of that, perhaps by what came so far. Whoever has kept the batches
        before it has to read no more than that one, also under a later snapshot.
        """


__all__ = ["Begun", "Resumable"]
