"""Columns of the node's bytes as numbers or texts, all values at once: most columns are such. Pure.

`cql` says what a value is; here is nothing that it would read otherwise. What is not plain, or an
error, is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from htapkit_cassandra import cql
from htapkit_cassandra.cql import Cql

_WIDTHS: Final[Mapping[str, int]] = {
    "bigint": 8,
    "counter": 8,
    "int": 4,
    "smallint": 2,
    "timestamp": 8,
    "tinyint": 1,
}


def whole(type_: Cql, values: pa.BinaryArray) -> pa.Array | None:
    """Numbers (of a timestamp its microseconds) or texts; None: they are not so plain."""
    if type_.name in cql.TEXTS:
        return _texts(values)
    width = _WIDTHS.get(type_.name)
    return (
        None
        if width is None or not len(values)
        else _numbers(values, width, of_time=type_.name == "timestamp")
    )


def _texts(values: pa.BinaryArray) -> pa.StringArray | None:
    data = values.buffers()[2]
    if data is not None and b"\0" in data.to_pybytes():
        return None
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:  # not UTF-8
        return None


def _numbers(values: pa.BinaryArray, width: int, *, of_time: bool) -> pa.Int64Array | None:
    _, offsets, data = values.buffers()
    first, count = values.offset, len(values)
    ends = np.frombuffer(offsets, np.int32)[first : first + count + 1]
    sizes = np.diff(ends)
    filled = sizes == width
    if not (filled | (sizes == 0)).all():
        return None
    numbers = np.zeros(count, np.int64)
    if filled.any():
        numbers[filled] = np.frombuffer(data, f">i{width}", int(filled.sum()), int(ends[0]))
    if of_time:
        low, high = cql.MICROSECONDS[0] // 1000, cql.MICROSECONDS[-1] // 1000
        if ((numbers <= low) | (numbers >= high)).any():
            return None
        numbers *= 1000
    # An empty value is shown as NULL.
    return pa.array(numbers, mask=~filled | values.is_null().to_numpy(zero_copy_only=False))
