"""Cells of one write as one record, in Arrow. Pure.

A record has a value and a tie for each column that folds, so a batch is turned from one row for
each cell into one for each place and write.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_Ints = npt.NDArray[np.int64]
_SHARED = ("place", "within", "rank", "expires")  # all cells of a record have them


def fold(
    cells: pa.RecordBatch, elements: Mapping[int | None, str], arrow: pa.Schema
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """(records in the schema `arrow`, the cells that do not fold).

    `elements` has the end of the columns' names for each ordinal that folds; None is the row's own
    existence. Of cells that a record can hold only one of, it is the one with the largest tie.
    """
    ordinals = pc.fill_null(cells["ordinal"].cast(pa.int64()), -1)
    wanted = np.array([-1 if ordinal is None else ordinal for ordinal in elements], np.int64)
    mine = np.isin(ordinals.to_numpy(zero_copy_only=False), wanted)
    mine &= cells["path"].is_null().to_numpy(zero_copy_only=False)
    folding, rest = cells.filter(pa.array(mine)), cells.filter(pa.array(~mine))
    gone = folding["value"].is_null()
    groups, firsts = _groups(folding, gone)
    first = pa.array(firsts)
    columns = {name: folding[name].take(first) for name in (*_SHARED, *_keys(arrow))}
    columns["gone"] = gone.take(first)
    held = ordinals.filter(pa.array(mine)).to_numpy(zero_copy_only=False)
    values = pc.fill_null(folding["value"], "")
    for ordinal, ending in elements.items():
        at = np.flatnonzero(held == (-1 if ordinal is None else ordinal))
        if len(np.unique(groups[at])) < len(at):
            at = np.array(sorted(at, key=lambda row: _tie(folding, int(row))), np.int64)
        chosen = np.full(len(firsts), -1, np.int64)
        chosen[groups[at]] = at  # of several the last one stays
        taken = pa.array(chosen, mask=chosen < 0)
        columns[f"v{ending}"], columns[f"t{ending}"] = (
            values.take(taken),
            folding["tie"].take(taken),
        )
    return pa.RecordBatch.from_arrays([columns[name] for name in arrow.names], schema=arrow), rest


def _keys(arrow: pa.Schema) -> list[str]:
    return [name for name in arrow.names if name.startswith("k")]


def _groups(cells: pa.RecordBatch, gone: pa.BooleanArray) -> tuple[_Ints, _Ints]:
    """(the number of each cell's record, a cell of each record)."""
    number = np.zeros(cells.num_rows, np.int64)
    for column in (cells["place"], cells["rank"], cells["expires"], gone):
        encoded = column.dictionary_encode("encode")
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        # Numbered anew each time, so that they never grow too large.
        number = np.unique(number * len(encoded.dictionary) + codes, return_inverse=True)[1]
    _, firsts, groups = np.unique(number, return_index=True, return_inverse=True)
    return groups, firsts


def _tie(cells: pa.RecordBatch, row: int) -> bytes:
    tie: bytes | None = cells["tie"][row].as_py()
    return (cells["value"][row].as_py() or "").encode() if tie is None else tie
