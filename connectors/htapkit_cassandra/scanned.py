"""Tables that are copied over CQL: what such a copy can say, and what has to be read again. Pure.

CQL gives the cells that are read, with the time of each write and the seconds that are left to it.
It gives no tombstones, and not when a row itself was written. So of what the log shows of such a
table two kinds of changes are not taken for themselves; the row is read instead:
- writes that are not younger than the copy (`horizon`): what deleted them may be older than it;
- changes that take values away: whether a row without values is there is for the node to say.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from htapkit_cassandra.catalog import quoted, quoted_table
from htapkit_cassandra.cql import Cql, elements
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.mutations import Cell, LogChange, RowWrite
from htapkit_cassandra.named import Key, Named, Row, written_rows

TTL_MAX: Final = 630_720_000
"""Seconds, the node's own limit. CQL does not say how long a cell had to live; of two that end at
the same time the one with less is read, so this one never wins over what a log says exactly."""
CLOCKS_MAX: Final = 5_000_000  # microseconds that the clocks of who writes may differ
_UNKNOWN: Final = -(2**62)  # before all times that are real; ticks are added to it
_LONG_AGO: Final = 1  # an end, in seconds: it loses against any other of the same time
_ELEMENTS: Final = (5, 0)  # the first version that says the times of elements


def unfit(layout: Layout, version: tuple[int, ...]) -> str:
    """Why a table cannot be copied exactly over CQL, "" = it can."""
    schema = layout.schema
    own = [c for c in schema.columns if c.name not in schema.key]
    if not any(not c.shared for c in own):
        return "it has no columns of its own beside its key, and CQL does not say when rows end"
    for c in own:
        type_ = layout.types[c.name]
        if type_.name == "list" and type_.brackets:
            return f"CQL does not say where the elements of {c.name} lie, a list that is not frozen"
        if type_.brackets and version < _ELEMENTS:
            return (
                f"CQL says the times of {c.name}'s elements from Cassandra 5.0 on "
                f"({type_.name}, not frozen)"
            )
    return ""


def select(layout: Layout) -> str:
    """All columns: those of the key, then each with its times and what is left to it."""
    schema = layout.schema
    wanted = [quoted(name) for name in schema.key]
    for name in _own(layout):
        column = quoted(name)
        wanted += [column, f"WRITETIME({column})", f"TTL({column})"]
    return f"SELECT {', '.join(wanted)} FROM {quoted_table(schema.table)}"  # noqa: S608 - quoted


def _own(layout: Layout) -> list[str]:
    return [c.name for c in layout.schema.columns if c.name not in layout.schema.key]


def scanned(layout: Layout, rows: Sequence[Row], moment: int, tick: int) -> Iterator[LogChange]:
    """All that some rows have, with what their partitions share.

    `moment` is when they were read, in seconds, as the node was told; `tick` grows with readings.
    """
    at = range(len(layout.schema.key))
    for key, clustering, row in written_rows(layout, rows, at):
        yield _write(layout, key, clustering, row, moment, tick)


def read_again(
    layout: Layout, wanted: Named, rows: Sequence[Row], moment: int, tick: int
) -> list[LogChange]:
    """What a reading says of a row that was named; one that is not there has no marker."""
    if rows:
        return [_write(layout, wanted.key, wanted.clustering, rows[0], moment, tick)]
    if wanted.clustering is None:
        return []
    return [RowWrite("", wanted.key, wanted.clustering, (), deleted=_UNKNOWN + tick)]


def judged(change: LogChange, horizon: int) -> tuple[LogChange | None, Named | None]:
    """(what of a logged change counts for itself, the row that is to be read).

    Deletions and tombstones count, whenever they are from: they take away what is older only. So
    does a late cell with an end, as one that is over: it may be when the row is read.
    """
    if not isinstance(change, RowWrite):
        return change, None
    name = Named(change.key, change.clustering)
    late = change.written is not None and change.written <= horizon
    kept = tuple(c for c in change.cells if c.value is None or c.written > horizon)
    if late or len(kept) < len(change.cells):
        over = (c for c in change.cells if c.value is not None and c.written <= horizon and c.ttl)
        ended = tuple(replace(c, ttl=TTL_MAX, expires=_LONG_AGO) for c in over)
        made = replace(change, cells=kept + ended)
        return (replace(made, written=None, ttl=0, expires=None) if late else made), name
    takes = bool(change.resets) or any(cell.value is None for cell in kept)
    gives = change.written is not None or any(cell.value is not None for cell in kept)
    return change, name if takes and not gives and change.clustering is not None else None


def _write(
    layout: Layout,
    key: Key,
    clustering: tuple[bytes | None, ...] | None,
    row: Row,
    moment: int,
    tick: int,
) -> RowWrite:
    shared = clustering is None
    cells: list[Cell] = []
    place = len(layout.schema.key)
    for column in layout.schema.columns:
        if column.name in layout.schema.key:
            continue
        value, written, left = row[place : place + 3]
        place += 3
        if column.shared is shared and value is not None:
            cells += _cells(column.name, layout.types[column.name], value, written, left, moment)
    # A row without values is there because of its marker, of which CQL says nothing.
    written_at = None if cells or shared else _UNKNOWN + tick
    return RowWrite("", key, clustering, tuple(cells), written=written_at)


def _cells(
    name: str, type_: Cql, value: bytes, written: bytes | None, left: bytes | None, moment: int
) -> Iterator[Cell]:
    if not type_.brackets:
        yield _cell(name, value, None, written, left, moment)
        return
    times = list(elements(written or b""))
    lives = list(elements(left)) if left is not None else [None] * len(times)
    if type_.user_defined:
        fields = list(elements(value, 0))
        fields += [None] * (len(times) - len(fields))
        parts = [(number.to_bytes(2, "big"), field) for number, field in enumerate(fields)]
    elif type_.name == "map":
        flat = list(elements(value))
        parts = [(k or b"", v) for k, v in zip(flat[::2], flat[1::2], strict=True)]
    else:
        parts = [(element or b"", b"") for element in elements(value)]
    for (path, part), time, life in zip(parts, times, lives, strict=True):
        if part is not None:
            yield _cell(name, part, path, time, life, moment)


def _cell(
    name: str, value: bytes, path: bytes | None, written: bytes | None, left: bytes | None, now: int
) -> Cell:
    if written is None:
        raise ValueError(f"the node gave no time for a value of {name}")
    (at,) = struct.unpack(">q", written)
    if left is None:
        return Cell(name, at, value, path)
    return Cell(name, at, value, path, TTL_MAX, now + struct.unpack(">i", left)[0])
