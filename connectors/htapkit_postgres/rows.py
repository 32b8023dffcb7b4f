"""Where the values of row messages lie: offsets and lengths for a column of many rows at a time.

Exists apart from `decode` because it is the one place that walks bytes of the stream; it checks
every tuple against its message's end, so that a stream cut wrongly is an error and never a wrong
value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htapkit_postgres.pgoutput import (
    VALUE_BINARY,
    VALUE_NULL,
    VALUE_TEXT,
    VALUE_UNCHANGED,
    malformed,
)

Indexes = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]

_INT32_END: Final = 2**31 - 1

FEW_ROWS: Final = 32
"""Up to so many, a loop is faster than arrays."""


@dataclass(frozen=True, slots=True)
class Messages:
    """A batch of messages as arrays over one buffer."""

    data: bytes | bytearray
    octets: Octets
    int32: npt.NDArray[Any]  # the big-endian integer that begins at each byte
    int16: npt.NDArray[Any]
    begin: Indexes  # of each message
    end: Indexes
    kind: Octets


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of many tuples."""

    kind: Octets
    begin: Indexes
    length: Indexes

    def select(self, rows: Indexes) -> Cells:
        """The cells of some rows."""
        return Cells(self.kind[rows], self.begin[rows], self.length[rows])


def open_messages(data: bytes | bytearray, lengths: npt.ArrayLike) -> Messages:
    """Arrays over the messages. Raises SourceError unless the lengths add up."""
    sizes = np.asarray(lengths, np.int64)
    end = np.cumsum(sizes)
    if len(sizes) and (end[-1] != len(data) or sizes.min() < 1):
        raise malformed("the messages' lengths do not add up")
    begin = end - sizes
    octets = np.frombuffer(data, np.uint8)
    return Messages(
        data=data,
        octets=octets,
        int32=_integers(data, ">i4"),
        int16=_integers(data, ">i2"),
        begin=begin,
        end=end,
        kind=octets[begin],
    )


def _integers(data: bytes | bytearray, dtype: str) -> npt.NDArray[Any]:
    width = np.dtype(dtype).itemsize
    return np.ndarray((max(len(data) - width + 1, 0),), dtype=dtype, buffer=data, strides=(1,))


def walk(messages: Messages, at: Indexes, columns: int) -> tuple[list[Cells], Indexes]:
    """The cells of the tuples that begin at `at` (at their column count), and each tuple's end."""
    octets, int32 = messages.octets, messages.int32
    cells = []
    try:
        if (messages.int16[at] != columns).any():
            raise malformed("a row with another number of columns than its relation")
        at = at + 2
        for _ in range(columns):
            kind = octets[at]
            texts = kind == VALUE_TEXT
            if texts.all():
                length = int32[at + 1].astype(np.int64)
                begin = at + 5
            else:
                _check_values(kind)
                # A null in the last column of the last row may leave fewer than four bytes to look
                # at.
                look = np.minimum(at + 1, len(int32) - 1)
                length = np.where(texts, int32[look], 0).astype(np.int64)
                begin = at + np.where(texts, 5, 1)
            at = begin + length
            cells.append(Cells(kind, begin, length))
    except IndexError as error:
        raise malformed("a row runs over the end of its batch") from error
    return cells, at


def _check_values(kind: Octets) -> None:
    if (kind == VALUE_BINARY).any():
        raise malformed("values in binary form, which were not asked for")
    if not ((kind == VALUE_TEXT) | (kind == VALUE_NULL) | (kind == VALUE_UNCHANGED)).all():
        raise malformed("a value of unknown kind")


def texts(messages: Messages, cells: Cells) -> pa.StringArray:
    """The texts of a column; null where there is none."""
    count = len(cells.begin)
    if count <= FEW_ROWS:
        return _few_texts(messages, cells)
    null = cells.kind != VALUE_TEXT
    # Values at even places, the gaps between them at odd ones: an array over the batch itself.
    small = len(messages.data) <= _INT32_END
    offsets = np.empty(2 * count + 1, np.int32 if small else np.int64)
    offsets[0:-1:2] = cells.begin
    np.add(cells.begin, cells.length, out=offsets[1::2], casting="unsafe")
    offsets[-1] = offsets[-2]
    spread = pa.Array.from_buffers(
        pa.string() if small else pa.large_string(),
        2 * count,
        [None, pa.py_buffer(offsets), pa.py_buffer(messages.data)],
    )
    even = np.arange(0, 2 * count, 2)
    picked = spread.take(pa.array(even, mask=null) if null.any() else pa.array(even))
    return picked if small else picked.cast(pa.string())


def _few_texts(messages: Messages, cells: Cells) -> pa.StringArray:
    data = messages.data
    columns = zip(cells.kind.tolist(), cells.begin.tolist(), cells.length.tolist(), strict=True)
    values = [
        data[begin : begin + length] if kind == VALUE_TEXT else None
        for kind, begin, length in columns
    ]
    return pa.array(values, pa.binary()).view(pa.string())
