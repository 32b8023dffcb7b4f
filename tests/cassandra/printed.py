"""Blocks as java/CommitLogTail.java prints them, of rows."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from htapkit_cassandra.mutations import Cell, RowWrite


def printed(rows: Sequence[RowWrite], ends: Sequence[int] | None = None) -> dict[str, Any]:
    """A block as the reader prints it: markers and cells in the order of the rows."""
    names = sorted({cell.column for row in rows for cell in row.cells})
    cells: list[tuple[int, int, Cell]] = []
    for number, row in enumerate(rows):
        if row.written is not None:
            marker = Cell("", row.written, b"", None, row.ttl, row.expires)
            cells.append((number, -1, marker))
        cells += [(number, names.index(cell.column), cell) for cell in row.cells]
    return {
        "table": rows[0].table,
        "columns": names,
        "key": [_values(part) for part in zip(*(row.key for row in rows), strict=True)],
        "clustering": [
            _values(part) for part in zip(*(row.clustering or () for row in rows), strict=True)
        ],
        "end": _numbers("i", ends or [end_of(row) for row in range(len(rows))]),
        "row": _numbers("i", [number for number, _, _ in cells]),
        "column": _numbers("i", [column for _, column, _ in cells]),
        "written": _numbers("q", [cell.written for _, _, cell in cells]),
        "ttl": _numbers("i", [cell.ttl for _, _, cell in cells]),
        "expires": _numbers("q", [-1 if c.expires is None else c.expires for _, _, c in cells]),
        "value": _values([cell.value for _, _, cell in cells]),
        "path": _values([cell.path for _, _, cell in cells]),
    }


def end_of(row: int) -> int:
    """Where the mutation ends that the row is of; each wrote two."""
    return 100 + row // 2


def _numbers(form: str, numbers: Sequence[int]) -> str:
    return b64encode(struct.pack(f"<{len(numbers)}{form}", *numbers)).decode()


def _values(values: Sequence[bytes | None]) -> dict[str, str]:
    offsets = [0]
    for value in values:
        offsets.append(offsets[-1] + len(value or b""))
    return {
        "offsets": _numbers("i", offsets),
        "there": b64encode(bytes(value is not None for value in values)).decode(),
        "data": b64encode(b"".join(value or b"" for value in values)).decode(),
    }
