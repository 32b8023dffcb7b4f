"""What the receiver collects and hands over: messages of whole transactions, and where they lie.

Plain values; nothing here reads a connection or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from htapkit_postgres.decode import Frames


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a chunk may hold and how many may wait."""

    rows: int
    bytes: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is handed over at once."""

    frames: Frames
    end: int  # all commits up to here are in this chunk or earlier ones
    complete: bool  # false: a part of a transaction that is too large for one chunk
    committed_us: int  # of its newest commit; 0: none
    marks: tuple[str, ...]
    received_seconds: float  # monotonic; everything in it was received before


@dataclass(slots=True)
class Pending:
    """Messages that were received and not handed over."""

    data: bytearray = field(default_factory=bytearray)
    lengths: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    committed_us: int = 0
    open_data: int = 0  # where the open transaction begins in `data`
    open_marks: int = 0  # and in `marks`

    def take_open(self, *, part: bool) -> Pending:
        """Move the open transaction out; with `part`, only what is still to come of it."""
        rest = Pending(starts=[0], ends=[self.ends[-1]], times=[self.times[-1]])
        if not part:
            first = self.starts[-1]
            rest.data, rest.lengths = self.data[self.open_data :], self.lengths[first:]
            rest.marks = self.marks[self.open_marks :]
            del self.data[self.open_data :], self.lengths[first:]
            del self.starts[-1], self.ends[-1], self.times[-1], self.marks[self.open_marks :]
        return rest
