"""Which renderer serves which announced type and Arrow type: the table behind `encodable`.

A codec has a column-wise form and one for a few rows, with the same result. What is not in the
table is not encodable; which codec serves a column never depends on a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from itertools import repeat

import numpy as np
import pyarrow as pa

from htapkit.errors import QueryFailed
from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY
from htapkit.serve.pgwire import datetime_text, float_text, rows_bytes, rows_numeric
from htapkit.serve.pgwire.rows_cells import (
    Cells,
    Fixed,
    Longs,
    Varying,
    WireColumn,
    blanked,
    fixed_values,
    pieces,
    pieces_list,
    valid_mask,
    whole_values,
)
from htapkit.serve.pgwire.zone_offsets import DAY_US, zone_offsets

Few = list[bytes | None]
ManyRows = Callable[[pa.Array, WireColumn, tzinfo], Cells]
FewRows = Callable[[pa.Array, WireColumn, tzinfo], Few]


@dataclass(frozen=True, slots=True)
class Codec:
    """The two forms of one renderer."""

    many: ManyRows
    few: FewRows


_TEXT = frozenset({25, 1043, 1042, 19, 705, 114})  # binary is the text itself
_JSONB, _BYTEA, _UUID, _BOOL, _CHAR = 3802, 17, 2950, 16, 18
_FLOAT4, _FLOAT8, _NUMERIC = 700, 701, 1700
_DATE, _TIME, _TIMESTAMP, _TIMESTAMPTZ = 1082, 1083, 1114, 1184
ZONED = frozenset({1184, 1185, 3910, 3911, 4534, 6152})
"""timestamptz, its ranges and their arrays: their text depends on the session's zone."""
FIRST_USER_OID = 16384
"""Types from here on were made by somebody: enums, composites, and what extensions bring."""
PRINTED_BY_SOURCE = frozenset(
    {24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191}
    | {1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090, 4097, 4192}
    | {790, 791}
)
"""regclass and the other reg… types, money, and their arrays.

What they print as is the catalog's, the search path's and `lc_monetary`'s word, at that moment.
"""

_TO_2000_DAYS = 10_957
_TO_2000_US = _TO_2000_DAYS * DAY_US
_INT64_MIN = -(2**63)


def plain(array: pa.Array) -> pa.Array:
    """The array without dictionary, extension type or view layout."""
    if isinstance(array.type, pa.BaseExtensionType):
        return plain(array.storage)
    if pa.types.is_dictionary(array.type):
        return plain(array.dictionary_decode())
    target = plain_type(array.type)
    return array if target == array.type else array.cast(target)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    joined = column.combine_chunks()
    if isinstance(joined, pa.ChunkedArray):  # no chunk at all, in some versions
        return pa.concat_arrays(joined.chunks) if joined.chunks else pa.array([], joined.type)
    return joined


def plain_type(arrow: pa.DataType) -> pa.DataType:
    """The type that `plain` gives."""
    if isinstance(arrow, pa.BaseExtensionType):
        return plain_type(arrow.storage_type)
    if pa.types.is_dictionary(arrow):
        return plain_type(arrow.value_type)
    if arrow == pa.string_view():
        return pa.large_string()
    return pa.large_binary() if arrow == pa.binary_view() else arrow


def is_string(arrow: pa.DataType) -> bool:
    """Text, with 32 or 64 bit offsets."""
    return bool(pa.types.is_string(arrow) or pa.types.is_large_string(arrow))


def codec(arrow: pa.DataType, oid: int, *, binary: bool, zone: tzinfo | None) -> Codec | None:
    """The renderer for a column of `plain` type; None if there is none."""
    if pa.types.is_null(arrow):
        return NULLS
    if is_string(arrow):
        return _of_strings(oid, binary=binary, zone=zone)
    if oid in rows_numeric.INTEGERS:
        whole = rows_numeric.is_number(arrow) and not rows_numeric.scale_of(arrow)
        return _CODECS[20, binary] if whole else None
    return _CODECS[oid, binary] if oid in _READS and _READS[oid](arrow) else None


def _of_strings(oid: int, *, binary: bool, zone: tzinfo | None) -> Codec | None:
    if oid in PRINTED_BY_SOURCE:
        return None
    if not binary:
        at_utc = zone is not None and zone_offsets(zone) is None
        # A composite of the user's may hold a timestamptz, which is kept printed in UTC.
        zoned = oid in ZONED or oid >= FIRST_USER_OID
        return STRINGS if at_utc or not zoned else None
    if oid in _TEXT:
        return STRINGS
    return _CODECS[oid, True] if oid in {_CHAR, _JSONB, _UUID} else None


def _reads_bytes(arrow: pa.DataType) -> bool:
    simple = pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow)
    return bool(simple or pa.types.is_fixed_size_binary(arrow))


_READS: Mapping[int, Callable[[pa.DataType], bool]] = {
    _BOOL: lambda arrow: bool(pa.types.is_boolean(arrow)),
    _FLOAT4: lambda arrow: arrow in {pa.float32(), pa.float64()},
    _FLOAT8: lambda arrow: arrow in {pa.float32(), pa.float64()},
    _NUMERIC: rows_numeric.is_number,
    _BYTEA: _reads_bytes,
    _UUID: lambda arrow: bool(arrow == pa.binary(16)),
    _DATE: lambda arrow: bool(pa.types.is_date32(arrow)),
    _TIME: lambda arrow: bool(arrow == pa.time64("us")),
    _TIMESTAMP: lambda arrow: bool(arrow == pa.timestamp("us")),
    _TIMESTAMPTZ: lambda arrow: bool(
        pa.types.is_timestamp(arrow) and arrow.unit == "us" and arrow.tz is not None
    ),
}


def _no_cells(array: pa.Array, _column: WireColumn, _zone: tzinfo) -> Cells:
    zeros = np.zeros(len(array), np.int64)
    return Varying(np.zeros(1, np.uint8), zeros, zeros)


NULLS = Codec(_no_cells, lambda array, _column, _zone: [None] * len(array))
STRINGS = Codec(
    lambda array, _column, _zone: pieces(array), lambda array, _column, _zone: pieces_list(array)
)


def _few_whole(
    array: pa.Array, column: WireColumn, render: Callable[[int], bytes]
) -> list[bytes | None]:
    found = rows_numeric.numbers(array)
    rows_numeric.check_integers(found, column.oid)
    return [None if value is None else render(value) for value in found]


def _integers_binary(array: pa.Array, column: WireColumn, _zone: tzinfo) -> Few:
    wire = rows_numeric.INTEGERS[column.oid][3]
    width, signed = int(wire[2]), wire[1] == "i"
    return _few_whole(array, column, lambda value: value.to_bytes(width, "big", signed=signed))


def _few_numeric(
    array: pa.Array, column: WireColumn, render: Callable[[int, int], bytes]
) -> list[bytes | None]:
    scale = rows_numeric.wire_scale(array.type, column.typmod)
    return [
        None
        if value is None
        else render(rows_numeric.rescaled(value, array.type, column.typmod), scale)
        for value in rows_numeric.numbers(array)
    ]


def _floats(array: pa.Array, oid: int) -> pa.Array:
    """The column in the announced precision."""
    target = pa.float32() if oid == _FLOAT4 else pa.float64()
    if array.type == target:
        return array
    if target == pa.float64():
        return array.cast(target)
    values = fixed_values(array, np.float64)
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(np.float32)
    valid = valid_mask(array)
    lost = np.isinf(narrow) & np.isfinite(values) | (narrow == 0) & (values != 0)
    if (lost if valid is None else lost & valid).any():
        raise QueryFailed("value out of range for type real")
    return pa.array(narrow, mask=None if valid is None else ~valid)


def _float_text(array: pa.Array, column: WireColumn, _zone: tzinfo) -> Few:
    array = _floats(array, column.oid)
    if column.oid == _FLOAT4:
        return blanked(array, list(float_text.float4_list(array)))
    return [None if value is None else float_text.float8_text(value) for value in array.to_pylist()]


def _float_binary_cells(array: pa.Array, column: WireColumn, _zone: tzinfo) -> Fixed:
    array = _floats(array, column.oid)
    width = 4 if column.oid == _FLOAT4 else 8
    values = fixed_values(array, f"<f{width}").byteswap()
    return Fixed(values.view(np.uint8).reshape(-1, width))


def _few_times(
    dtype: str, check: Callable[[Longs], None], render: Callable[[int, tzinfo], bytes]
) -> FewRows:
    def few(array: pa.Array, _column: WireColumn, zone: tzinfo) -> Few:
        values = whole_values(array, dtype)
        check(values)
        found: Few = list(map(render, values.tolist(), repeat(zone)))
        return blanked(array, found)

    return few


def _many_times(
    dtype: str,
    check: Callable[[Longs], None],
    render: Callable[[Longs, tzinfo], Cells],
) -> ManyRows:
    def many(array: pa.Array, _column: WireColumn, zone: tzinfo) -> Cells:
        values = whole_values(array, dtype)
        check(values)
        return render(values, zone)

    return many


def _since_2000(value: int, shift: int, infinity: int, width: int) -> bytes:
    """A date or timestamp in binary, which has its own infinities and epoch."""
    bits = 8 * width - 1
    if value == infinity:
        value = 2**bits - 1
    else:
        value = -(2**bits) if value == -infinity else value - shift
    return value.to_bytes(width, "big", signed=True)


def _dates_binary(days: Longs, _zone: tzinfo) -> Cells:
    wire = days - _TO_2000_DAYS
    if len(days) and max(-int(days.min()), int(days.max())) == DATE_INFINITY:
        wire = np.where(days == DATE_INFINITY, DATE_INFINITY, wire)
        wire = np.where(days == -DATE_INFINITY, -DATE_INFINITY - 1, wire)
    return Fixed(wire.astype(">i4").view(np.uint8).reshape(-1, 4))


def _instants_binary(instants: Longs, _zone: tzinfo) -> Cells:
    infinite = len(instants) and max(-int(instants.min()), int(instants.max()))
    if infinite == TIMESTAMP_INFINITY:
        safe = np.where(instants == -TIMESTAMP_INFINITY, 0, instants)
        wire = np.where(instants == TIMESTAMP_INFINITY, instants, safe - _TO_2000_US)
        wire = np.where(instants == -TIMESTAMP_INFINITY, _INT64_MIN, wire)
    else:
        wire = instants - _TO_2000_US
    return Fixed(wire.astype(">i8").view(np.uint8).reshape(-1, 8))


def _times_binary(times: Longs, _zone: tzinfo) -> Cells:
    return Fixed(times.astype(">i8").view(np.uint8).reshape(-1, 8))


_STAMPS_BINARY = Codec(
    _many_times("<i8", datetime_text.check_instants, _instants_binary),
    _few_times(
        "<i8",
        datetime_text.check_instants,
        lambda value, _zone: _since_2000(value, _TO_2000_US, TIMESTAMP_INFINITY, 8),
    ),
)

_CODECS: Mapping[tuple[int, bool], Codec] = {
    (_BOOL, False): Codec(
        lambda array, _column, _zone: rows_bytes.bool_cells(array, binary=False),
        lambda array, _column, _zone: rows_bytes.bool_list(array, binary=False),
    ),
    (_BOOL, True): Codec(
        lambda array, _column, _zone: rows_bytes.bool_cells(array, binary=True),
        lambda array, _column, _zone: rows_bytes.bool_list(array, binary=True),
    ),
    (20, False): Codec(  # all integers: the column says which
        lambda array, column, _zone: rows_numeric.integer_cells(array, column.oid),
        lambda array, column, _zone: _few_whole(array, column, lambda value: b"%d" % value),
    ),
    (20, True): Codec(
        lambda array, column, _zone: rows_numeric.integer_binary(array, column.oid),
        _integers_binary,
    ),
    (_NUMERIC, False): Codec(
        lambda array, column, _zone: rows_numeric.numeric_cells(array, column.typmod),
        lambda array, column, _zone: _few_numeric(array, column, rows_numeric.numeric_text),
    ),
    (_NUMERIC, True): Codec(
        lambda array, column, _zone: rows_numeric.numeric_binary_cells(array, column.typmod),
        lambda array, column, _zone: _few_numeric(array, column, rows_numeric.numeric_binary),
    ),
    **dict.fromkeys(
        [(_FLOAT4, False), (_FLOAT8, False)],
        Codec(
            lambda array, column, _zone: float_text.float_cells(_floats(array, column.oid)),
            _float_text,
        ),
    ),
    **dict.fromkeys(
        [(_FLOAT4, True), (_FLOAT8, True)],
        Codec(
            _float_binary_cells,
            lambda array, column, zone: blanked(
                array,
                [row.tobytes() for row in _float_binary_cells(array, column, zone).matrix],
            ),
        ),
    ),
    (_BYTEA, False): Codec(
        lambda array, _column, _zone: rows_bytes.bytea_cells(array),
        lambda array, _column, _zone: rows_bytes.bytea_list(array),
    ),
    (_BYTEA, True): Codec(
        lambda array, _column, _zone: rows_bytes.binary_cells(array),
        lambda array, _column, _zone: rows_bytes.binary_list(array),
    ),
    (_UUID, False): Codec(
        lambda array, _column, _zone: rows_bytes.uuid_text_cells(array),
        lambda array, _column, _zone: rows_bytes.uuid_text_list(array),
    ),
    (_UUID, True): Codec(
        lambda array, _column, _zone: rows_bytes.uuid_binary_cells(array),
        lambda array, _column, _zone: rows_bytes.uuid_binary_list(array),
    ),
    (_CHAR, True): Codec(
        lambda array, _column, _zone: rows_bytes.char_cells(array),
        lambda array, _column, _zone: rows_bytes.char_list(array),
    ),
    (_JSONB, True): Codec(
        lambda array, _column, _zone: rows_bytes.jsonb_cells(array),
        lambda array, _column, _zone: rows_bytes.jsonb_list(array),
    ),
    (_DATE, False): Codec(
        _many_times(
            "<i4", datetime_text.check_days, lambda days, _zone: datetime_text.date_cells(days)
        ),
        _few_times(
            "<i4", datetime_text.check_days, lambda day, _zone: datetime_text.date_text(day)
        ),
    ),
    (_DATE, True): Codec(
        _many_times("<i4", datetime_text.check_days, _dates_binary),
        _few_times(
            "<i4",
            datetime_text.check_days,
            lambda value, _zone: _since_2000(value, _TO_2000_DAYS, DATE_INFINITY, 4),
        ),
    ),
    (_TIME, False): Codec(
        _many_times(
            "<i8", datetime_text.check_times, lambda times, _zone: datetime_text.time_cells(times)
        ),
        _few_times(
            "<i8", datetime_text.check_times, lambda time, _zone: datetime_text.time_text(time)
        ),
    ),
    (_TIME, True): Codec(
        _many_times("<i8", datetime_text.check_times, _times_binary),
        _few_times("<i8", datetime_text.check_times, lambda time, _zone: time.to_bytes(8, "big")),
    ),
    (_TIMESTAMP, False): Codec(
        _many_times(
            "<i8",
            datetime_text.check_instants,
            lambda values, _zone: datetime_text.timestamp_cells(values),
        ),
        _few_times(
            "<i8",
            datetime_text.check_instants,
            lambda value, _zone: datetime_text.timestamp_text(value),
        ),
    ),
    (_TIMESTAMPTZ, False): Codec(
        _many_times("<i8", datetime_text.check_instants, datetime_text.timestamptz_cells),
        _few_times("<i8", datetime_text.check_instants, datetime_text.timestamptz_text),
    ),
    (_TIMESTAMP, True): _STAMPS_BINARY,
    (_TIMESTAMPTZ, True): _STAMPS_BINARY,
}
