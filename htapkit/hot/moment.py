"""One moment of all tables, for a job of our own that reads them one after the other.

However many tables there are, it takes a few transactions, all of one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from htapkit.errors import HtapkitError, MomentGone
from htapkit.hot.core import Core
from htapkit.hot.reads import Asked, Read, Reads

_TRANSACTIONS = 4


class Moment:
    """Statements on one snapshot, one at a time. A context manager, of one thread.

    They neither count for `limits.reads` nor end by `limits.statement_time`. DuckDB ends the
    transaction of a statement that fails, so there are some to spare.
    """

    def __init__(self, core: Core, reads: Reads) -> None:
        """Use `HotStore.moment`."""
        self._reads: list[Read] = []
        try:
            with core.writing():  # so that nothing is committed between them
                self.catalog = core.catalog
                for _ in range(_TRANSACTIONS):
                    self._reads.append(reads.begin((), self.catalog.version, own=True))
                    self._reads[-1].now = self._reads[0].now
        except BaseException:
            self.close()
            raise

    def batches(self, asked: Asked) -> Iterator[pa.RecordBatch]:
        """A statement's rows. The one before must have ended.

        Raises QueryFailed, StoreFailed, LimitReached, LakeFailed, MomentGone (too many failed).
        """
        if not self._reads:
            raise MomentGone(f"{_TRANSACTIONS} tables before it could not be read here; try again")
        read = self._reads[-1]
        try:
            read.run(asked)
            yield from read.batches()
        except HtapkitError:
            self._reads.pop().close()
            raise
        finally:
            read.end_statement()

    def close(self) -> None:
        """End it. Safe to call twice."""
        while self._reads:
            self._reads.pop().close()

    def __enter__(self) -> Moment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
