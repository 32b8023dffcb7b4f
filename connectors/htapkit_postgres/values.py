"""What PostgreSQL printed, as Arrow values: exactly, or not at all.

Exists because Arrow's own casts are fast but know neither `infinity` nor `BC` nor years after 9999
nor `24:00:00`; those rows take a slower way here. It never rounds and never clamps: what a type
cannot hold raises Unfit.
"""

from __future__ import annotations

import binascii
import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY

_DAY_US: Final = 86_400_000_000
_DAYS_0000_TO_1970: Final = 719_468  # from 1 March of year 0, see _days

_DATE = re.compile(r"(\d{4,})-(\d\d)-(\d\d)( BC)?")
_TIMESTAMP = re.compile(
    r"(\d{4,})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:\+00)?( BC)?"
)
_REGULAR: Final = r"^\d{4}-\d\d-\d\d[^C]*$"

_CAST_OPTIONS: dict[pa.DataType, pc.CastOptions] = {}


class Unfit(ValueError):
    """A value that the Arrow type cannot hold exactly; the message never has the value in it."""


def convert(texts: pa.StringArray, arrow: pa.DataType) -> pa.Array:
    """A column as PostgreSQL printed it, in `arrow`. Raises Unfit."""
    if arrow.id == _STRING:
        return texts
    if arrow.id == _BOOL:
        return pc.equal(texts, _TRUE)
    if arrow.id == _BINARY:
        return _unhex(texts)
    try:
        return _cast(texts, arrow)
    except pa.ArrowInvalid as error:
        if arrow.id in _INFINITIES:
            return _convert_dates(texts, arrow)
        if arrow.id == _TIME:
            return _convert_times(texts, arrow)
        if arrow.id == _DECIMAL and pc.any(pc.equal(texts, "NaN")).as_py():
            raise Unfit(f"NaN in numeric({arrow.precision},{arrow.scale})") from error
        raise Unfit(f"a value that {arrow} cannot hold") from error


_STRING: Final = pa.string().id
_BOOL: Final = pa.bool_().id
_BINARY: Final = pa.binary().id
_DECIMAL: Final = pa.decimal128(1).id
_TIME: Final = pa.time64("us").id
_DATE_ID: Final = pa.date32().id
_INFINITIES: Final = {_DATE_ID: DATE_INFINITY, pa.timestamp("us").id: TIMESTAMP_INFINITY}
_MOMENT: Final = pa.timestamp("us")
_DAY_ZERO: Final = pa.scalar("1970-01-01", pa.string())
_BLANK: Final = pa.scalar(" ", pa.string())
_TRUE: Final = pa.scalar("t", pa.string())


def _cast(texts: pa.Array, arrow: pa.DataType) -> pa.Array:
    if arrow.id == _TIME:
        # Arrow has no cast to time: the same moment of the first day has the same number.
        moments = pc.binary_join_element_wise(_DAY_ZERO, texts, _BLANK)
        return _cast(moments, _MOMENT).view(arrow)
    options = _CAST_OPTIONS.get(arrow)
    if options is None:
        # Making the options costs more than casting ten values.
        options = _CAST_OPTIONS.setdefault(arrow, pc.CastOptions.safe(arrow))
    return pc.call_function("cast", [texts], options)


def with_storage(
    arrow: pa.DataType, values: npt.NDArray[np.generic], valid: pa.Buffer | None
) -> pa.Array:
    """An array of a fixed-width type over its own storage integers."""
    return pa.Array.from_buffers(arrow, len(values), [valid, pa.py_buffer(values)])


def storage(array: pa.Array, dtype: type[np.signedinteger[Any]]) -> npt.NDArray[np.int64]:
    """A copy of the storage integers of a fixed-width array; what stands at nulls is undefined."""
    data = np.frombuffer(array.buffers()[1], dtype)
    return data[array.offset : array.offset + len(array)].copy()


def validity(array: pa.Array) -> pa.Buffer | None:
    """The bitmap of an array's non-nulls, from bit 0 on even where the array is a slice."""
    if array.null_count == 0:
        return None
    return pa.array(array.is_valid().to_numpy(zero_copy_only=False)).buffers()[1]


def _convert_dates(texts: pa.StringArray, arrow: pa.DataType) -> pa.Array:
    """Dates and timestamps of which some are infinite, BC or after 9999."""
    dtype = np.int32 if arrow.id == _DATE_ID else np.int64
    infinity = _INFINITIES[arrow.id]
    regular = pc.match_substring_regex(texts, _REGULAR)
    values = storage(_cast_regular(texts, regular, arrow), dtype)
    special = np.flatnonzero(_true(pc.invert(regular)))
    parse = parse_date if arrow.id == _DATE_ID else parse_timestamp
    for row, text in zip(special.tolist(), texts.take(pa.array(special)).to_pylist(), strict=True):
        if text == "infinity":
            values[row] = infinity
        elif text == "-infinity":
            values[row] = -infinity
        else:
            values[row] = parse(text)
    return with_storage(arrow, values, validity(texts))


def _convert_times(texts: pa.StringArray, arrow: pa.DataType) -> pa.Array:
    """Times of which some are 24:00:00."""
    regular = pc.not_equal(texts, "24:00:00")
    values = storage(_cast_regular(texts, regular, arrow), np.int64)
    midnight = _true(pc.invert(regular))
    values[midnight] = _DAY_US
    return with_storage(arrow, values, validity(texts))


def _true(mask: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    return pc.and_kleene(mask, mask.is_valid()).to_numpy(zero_copy_only=False)


def _cast_regular(texts: pa.StringArray, regular: pa.BooleanArray, arrow: pa.DataType) -> pa.Array:
    try:
        return _cast(pc.if_else(regular, texts, pa.scalar(None, pa.string())), arrow)
    except pa.ArrowInvalid as error:
        raise Unfit(f"a value that {arrow} cannot hold") from error


def parse_date(text: str) -> int:
    """Days since 1970 of a finite date in ISO form, any year, with or without BC."""
    found = _DATE.fullmatch(text)
    if found is None:
        raise Unfit("a date in an unknown form")
    year, month, day, before_christ = found.groups()
    return _days(1 - int(year) if before_christ else int(year), int(month), int(day))


def parse_timestamp(text: str) -> int:
    """Microseconds since 1970 of a finite timestamp in ISO form and UTC, any year."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        raise Unfit("a timestamp in an unknown form")
    year, month, day, hour, minute, second, fraction, before_christ = found.groups()
    days = _days(1 - int(year) if before_christ else int(year), int(month), int(day))
    seconds = (int(hour) * 60 + int(minute)) * 60 + int(second)
    microseconds = days * _DAY_US + seconds * 1_000_000 + int((fraction or "").ljust(6, "0"))
    if microseconds >= TIMESTAMP_INFINITY:
        raise Unfit("a timestamp after the year 294246")
    return microseconds


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar, which has a year 0."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _DAYS_0000_TO_1970


def _unhex(texts: pa.StringArray) -> pa.Array:
    """Bytea in hex form: the backslash and x of each value go, and the rest is halved."""
    count = len(texts)
    _, offsets_buffer, data = texts.buffers()
    first = texts.offset
    offsets = np.frombuffer(offsets_buffer, np.int32)[first : first + count + 1].astype(np.int64)
    prefixes = np.zeros(count + 1, np.int64)
    np.cumsum(offsets[1:] > offsets[:-1], out=prefixes[1:])
    hexadecimal = memoryview(data)[offsets[0] : offsets[-1]].tobytes() if data is not None else b""
    try:
        raw = binascii.unhexlify(hexadecimal.replace(b"\\x", b""))
    except binascii.Error as error:
        raise Unfit("bytea that is not printed as hex") from error
    halved = ((offsets - offsets[0] - 2 * prefixes) // 2).astype(np.int32)
    if len(raw) != halved[-1]:
        raise Unfit("bytea that is not printed as hex")
    return pa.Array.from_buffers(
        pa.binary(), count, [validity(texts), pa.py_buffer(halved), pa.py_buffer(raw)]
    )
