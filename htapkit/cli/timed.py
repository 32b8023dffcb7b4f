"""A read in the copy that tells when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import pyarrow as pa

from htapkit.model import Position, Route
from htapkit.serve.pgwire import Read


class TimedRead:
    """A read as `serve.pgwire.Opened` has it."""

    def __init__(self, read: Read, route: Route, ended: Callable[[], object]) -> None:
        """`ended` is called once: after the last row, or when it is closed before."""
        self.route = route
        self._read = read
        self._ended: Callable[[], object] | None = ended

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self._read.schema

    @property
    def positions(self) -> Mapping[str, Position]:
        """The position of each source that was read."""
        return self._read.positions

    @property
    def committed_at(self) -> Mapping[str, datetime | None]:
        """The newest commit in it, by each source's clock."""
        return self._read.committed_at

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, in bounded pieces."""
        yield from self._read.batches()
        self._end()

    def cancel(self) -> None:
        """Interrupt it from any thread."""
        self._read.cancel()

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        self._read.close()
        self._end()

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
