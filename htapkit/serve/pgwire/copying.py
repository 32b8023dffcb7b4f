"""Rows as COPY … TO STDOUT gives them: CopyData messages, written as PostgreSQL writes them.

The formats are those of PostgreSQL's page of COPY. In the binary one a row is what a DataRow has
in its body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

import numpy as np
import pyarrow as pa

from htapkit.plan.plan import CopyFormat, CopyOut
from htapkit.serve.pgwire import messages
from htapkit.serve.pgwire.rows import cells_of, data_rows
from htapkit.serve.pgwire.rows_cells import (
    Cells,
    Mask,
    Varying,
    WireColumn,
    as_varying,
    lines,
    with_exceptions,
)

_DATA, _DONE = b"d", messages.message(b"c")
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_LETTERS = {8: b"b", 9: b"t", 10: b"n", 11: b"v", 12: b"f", 13: b"r"}
_END_OF_DATA = b"\\."
_INT = 4


@dataclass(slots=True, eq=False)
class Copy:
    """One answer on its way to a client that copies it."""

    form: CopyOut
    columns: Sequence[WireColumn]
    names: Sequence[bytes]
    _style: _Style = field(init=False)
    _ahead: bytes = b""  # what stands before the next row, in its message

    def __post_init__(self) -> None:
        """Ready for rows."""
        self._style = _Style.of(self.form, len(self.columns))

    def begin(self, rows: bytes | memoryview) -> bytes:
        """What comes before the rows, and the first of them."""
        binary = self.form.format is CopyFormat.BINARY
        codes = [int(binary)] * len(self.columns)
        head = bytes([binary]) + b"".join(n.to_bytes(2, "big") for n in (len(codes), *codes))
        parts: list[bytes | memoryview] = [messages.message(b"H", head)]
        if binary and len(rows):
            size = int.from_bytes(rows[1:5], "big") + len(_SIGNATURE)
            parts += [_DATA, size.to_bytes(_INT, "big"), _SIGNATURE, rows[5:]]
            return b"".join(parts)
        if binary:
            self._ahead = _SIGNATURE
        elif self.form.header:
            parts.append(self._line([self._style.escaped(name) for name in self.names]))
        return b"".join([*parts, rows])

    def end(self) -> bytes:
        """What comes behind the rows."""
        if self.form.format is not CopyFormat.BINARY:
            return _DONE
        return messages.message(_DATA, self._ahead + _TRAILER) + _DONE

    def rows(self, batch: pa.RecordBatch, zone: tzinfo) -> bytes | memoryview:
        """The CopyData messages of a batch. Raises QueryFailed as `data_rows` does."""
        if self.form.format is CopyFormat.BINARY or not batch.num_rows:
            return data_rows(batch, self.columns, zone, kind=_DATA)
        cells = [self._style.all(each) for each in cells_of(batch, self.columns, zone)]
        return lines(batch.num_rows, cells, ord(self._style.delimiter))

    def row(self, row: bytes) -> bytes:
        """The CopyData message of a DataRow message."""
        if self.form.format is CopyFormat.BINARY:
            return _DATA + row[1:]
        style = self._style
        values = (
            style.null if v is None else style.escaped(v) for v in messages.read_cells(row[5:])
        )
        return self._line(list(values))

    def _line(self, values: Sequence[bytes]) -> bytes:
        return messages.message(_DATA, self._style.delimiter.join(values) + b"\n")


@dataclass(frozen=True, slots=True)
class _Style:
    """How values are written as text."""

    delimiter: bytes
    null: bytes
    special: Mask  # by byte: values with one of these are looked at
    lengths: frozenset[int]  # so are values of these lengths
    escaped: Callable[[bytes], bytes]

    @classmethod
    def of(cls, form: CopyOut, columns: int) -> _Style:
        csv = form.format is CopyFormat.CSV
        delimiter = form.delimiter.encode() or (b"," if csv else b"\t")
        null = form.null.encode() if form.null is not None else b"" if csv else b"\\N"
        if not csv:
            letters = {bytes([code]): b"\\" + letter for code, letter in _LETTERS.items()}
            letters |= {each: b"\\" + each for each in (b"\\", delimiter) if each not in letters}
            found = re.compile(b"[" + re.escape(b"".join(letters)) + b"]")

            def backslashed(value: bytes) -> bytes:
                return found.sub(lambda match: letters[match[0]], value)

            return cls(delimiter, null, _mask(b"".join(letters)), frozenset(), backslashed)
        alone = {null, _END_OF_DATA} if columns == 1 else {null}
        quoting = re.compile(b'["\r\n' + re.escape(delimiter) + b"]")

        def quoted(value: bytes) -> bytes:
            if value not in alone and not quoting.search(value):
                return value
            return b'"' + value.replace(b'"', b'""') + b'"'

        lengths = frozenset(map(len, alone))
        return cls(delimiter, null, _mask(b'"\r\n' + delimiter), lengths, quoted)

    def all(self, cells: Cells) -> Varying:
        """A column's values as they are written, NULLs too."""
        cells = as_varying(cells)
        missing = cells.length < 0
        rows = self._doubtful(cells)
        texts = [
            self.escaped(cells.octets[start : start + length].tobytes())
            for start, length in zip(
                cells.start[rows].tolist(), cells.length[rows].tolist(), strict=True
            )
        ]
        cells = with_exceptions(cells, rows.tolist(), texts)
        if not missing.any():
            return cells
        octets = np.concatenate([cells.octets, np.frombuffer(self.null, np.uint8)])
        start = np.where(missing, len(cells.octets), cells.start)
        return Varying(octets, start, np.where(missing, len(self.null), cells.length))

    def _doubtful(self, cells: Varying) -> np.ndarray:
        """The rows whose values may be written otherwise than they are."""
        present = cells.length >= 0
        if not present.any():
            return np.flatnonzero(present)
        first = int(cells.start[present].min())
        ends = cells.start + np.maximum(cells.length, 0)
        last = int(ends[present].max())
        counts = np.zeros(last - first + 1, np.int64)
        np.cumsum(self.special[cells.octets[first:last]], out=counts[1:])
        within = np.where(present, counts[np.where(present, ends - first, 0)], 0)
        within -= np.where(present, counts[np.where(present, cells.start - first, 0)], 0)
        looked_at = (within > 0) | np.isin(cells.length, list(self.lengths))
        return np.flatnonzero(looked_at & present)


def _mask(octets: bytes) -> Mask:
    mask = np.zeros(256, np.bool_)
    mask[list(octets)] = True
    return mask
