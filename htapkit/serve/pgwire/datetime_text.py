"""date, time, timestamp and timestamptz as PostgreSQL prints them with DateStyle ISO.

Values are Arrow's integers since 1970. The years 1 to 9999 are rendered as byte matrices; infinity,
BC and later years one by one, by the same functions that serve short results. Values outside
PostgreSQL's own range are refused: it could not have sent them.
"""

from __future__ import annotations

from datetime import tzinfo
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from htapkit.errors import QueryFailed
from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY
from htapkit.serve.pgwire.rows_cells import Longs, Octets, Varying, with_exceptions
from htapkit.serve.pgwire.zone_offsets import DAY_US, zone_offsets

DAY_MIN = -2_440_588  # 4714-11-24 BC, Julian day 0
DAY_MAX = 2_147_483_493 - 2_440_588  # 5874897-12-31
TIMESTAMP_MIN = DAY_MIN * DAY_US
_PLAIN_DAY_MIN, _PLAIN_DAY_MAX = -719_162, 2_932_896  # the years 1 to 9999
_WIDTH = 44  # date 10, space, time 8, fraction 7, offset 9, and a rest


def date_text(day: int) -> bytes:
    """One date."""
    return _date(day) if abs(day) != DATE_INFINITY else _infinity(day)


def time_text(microseconds: int) -> bytes:
    """One time of day; 24:00:00 exists."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, second = divmod(seconds, 60)
    text = b"%02d:%02d:%02d" % (*divmod(minutes, 60), second)
    return text + (b".%06d" % fraction).rstrip(b"0") if fraction else text


def timestamp_text(instant_us: int) -> bytes:
    """One timestamp without zone."""
    return (
        _stamp(instant_us, b"") if abs(instant_us) != TIMESTAMP_INFINITY else _infinity(instant_us)
    )


def timestamptz_text(instant_us: int, zone: tzinfo) -> bytes:
    """One timestamp with zone, in the session's zone."""
    if abs(instant_us) == TIMESTAMP_INFINITY:
        return _infinity(instant_us)
    offsets = zone_offsets(zone)
    offset = offsets.at(instant_us) if offsets else 0
    return _stamp(instant_us + offset * 1_000_000, _offset(offset))


def check_days(days: Longs) -> None:
    """Refuse dates that PostgreSQL does not have."""
    bad = ((days < DAY_MIN) | (days > DAY_MAX)) & (np.abs(days) != DATE_INFINITY)
    if bad.any():
        raise QueryFailed("date out of range: PostgreSQL's dates begin in 4714 BC")


def check_times(times: Longs) -> None:
    """Refuse times of day before 00:00 and after 24:00."""
    if len(times) and (times.min() < 0 or times.max() > DAY_US):
        raise QueryFailed("time out of range: it must be from 00:00:00 to 24:00:00")


def check_instants(instants: Longs) -> None:
    """Refuse timestamps that PostgreSQL does not have."""
    if ((instants < TIMESTAMP_MIN) & (instants != -TIMESTAMP_INFINITY)).any():
        raise QueryFailed("timestamp out of range: PostgreSQL's timestamps begin in 4714 BC")


def date_cells(days: Longs) -> Varying:
    """A column of dates."""
    plain = (days >= _PLAIN_DAY_MIN) & (days <= _PLAIN_DAY_MAX)
    matrix = _dates(days if plain.all() else np.where(plain, days, 0))
    count = len(days)
    cells = Varying(
        matrix.reshape(-1), np.arange(count, dtype=np.int64) * 11, np.full(count, 10, np.int64)
    )
    odd = np.flatnonzero(~plain).tolist()
    return with_exceptions(cells, odd, [date_text(int(days[row])) for row in odd])


def time_cells(times: Longs) -> Varying:
    """A column of times of day."""
    count = len(times)
    matrix = np.empty((count, 16), np.uint8)
    length = _clock(matrix, 0, times)
    return Varying(matrix.reshape(-1), np.arange(count, dtype=np.int64) * 16, length)


def timestamp_cells(instants: Longs) -> Varying:
    """A column of timestamps without zone."""
    plain, local = _plain(instants, None)
    cells = _stamps(local, None)
    odd = np.flatnonzero(~plain).tolist()
    return with_exceptions(cells, odd, [timestamp_text(int(instants[row])) for row in odd])


def timestamptz_cells(instants: Longs, zone: tzinfo) -> Varying:
    """A column of timestamps with zone, in the session's zone."""
    found = zone_offsets(zone)
    offsets = found(instants) if found else np.zeros(len(instants), np.int64)
    plain, local = _plain(instants, offsets if found else None)
    cells = _stamps(local, offsets)
    odd = np.flatnonzero(~plain).tolist()
    return with_exceptions(cells, odd, [timestamptz_text(int(instants[row]), zone) for row in odd])


def _plain(instants: Longs, offsets: Longs | None) -> tuple[npt.NDArray[np.bool_], Longs]:
    """Which local times lie in the years 1 to 9999, and those times (others are zeroed)."""
    margin = DAY_US  # an offset must not overflow infinity
    safe = (instants > TIMESTAMP_MIN + margin) & (instants < TIMESTAMP_INFINITY - margin)
    local = instants
    if offsets is not None:
        local = np.where(safe, instants, 0) + offsets * 1_000_000
    low, high = _PLAIN_DAY_MIN * DAY_US, (_PLAIN_DAY_MAX + 1) * DAY_US
    plain = safe & (local >= low) & (local < high)
    return plain, local if plain.all() else np.where(plain, local, 0)


def _stamps(local: Longs, offsets: Longs | None) -> Varying:
    count = len(local)
    days = local // DAY_US
    matrix = np.empty((count, _WIDTH), np.uint8)
    matrix[:, :11] = _dates(days)
    length = _clock(matrix, 11, local - days * DAY_US)
    starts = np.arange(count, dtype=np.int64) * _WIDTH
    octets = matrix.reshape(-1)
    if offsets is not None and count:
        same = int(offsets[0]) if (offsets == offsets[0]).all() else None
        for offset in [same] if same is not None else np.unique(offsets).tolist():
            rows = slice(None) if same is not None else np.flatnonzero(offsets == offset)
            text = _offset(offset)
            at = starts[rows] + length[rows]
            for place, octet in enumerate(text):
                octets[at + place] = octet
            length[rows] += len(text)
    return Varying(octets, starts, length)


def _dates(days: Longs) -> Octets:
    """`YYYY-MM-DD ` of days in the years 1 to 9999, with the space that a time needs."""
    if not len(days):
        return np.empty((0, 11), np.uint8)
    first, last = int(days.min()), int(days.max())
    if last - first < len(days):  # each day only once
        table = _render_dates(np.arange(first, last + 1)).reshape(-1).view("V11")
        return table[days - first].view(np.uint8).reshape(-1, 11)
    return _render_dates(days)


def _render_dates(days: Longs) -> Octets:
    dates = days.astype("M8[D]")
    months = dates.astype("M8[M]")
    in_months = months.view(np.int64)
    years = in_months // 12 + 1970
    out = np.empty((len(days), 11), np.uint8)
    two = _digits(2)
    out[:, 0:2] = two[years // 100]
    out[:, 2:4] = two[years % 100]
    out[:, 5:7] = two[in_months % 12 + 1]
    out[:, 8:10] = two[(dates - months.astype("M8[D]")).view(np.int64) + 1]
    out[:, 4] = out[:, 7] = ord("-")
    out[:, 10] = ord(" ")
    return out


def _clock(matrix: Octets, column: int, times: Longs) -> Longs:
    """Write `HH:MM:SS[.ffffff]` from `column` on; the length of each row up to its end."""
    seconds = times // 1_000_000
    fractions = times - seconds * 1_000_000
    matrix[:, column : column + 8] = _seconds()[seconds].view(np.uint8).reshape(-1, 8)
    length = np.full(len(times), column + 8, np.int64)
    if fractions.any():
        high = fractions // 1000
        low = fractions - high * 1000
        three, zeros = _digits(3), _trailing_zeros()
        matrix[:, column + 8] = ord(".")
        matrix[:, column + 9 : column + 12] = three[high]
        matrix[:, column + 12 : column + 15] = three[low]
        shown = np.where(low == 0, 4 - zeros[high], 7 - zeros[low])
        length += np.where(fractions == 0, 0, shown)
    return length


@lru_cache(maxsize=1)
def _seconds() -> npt.NDArray[np.uint64]:
    """`HH:MM:SS` of each second of a day, as one word each, and of 24:00:00."""
    text = "".join(f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(86401))
    return np.frombuffer(text.encode(), np.uint64)


@lru_cache(maxsize=2)
def _digits(width: int) -> Octets:
    text = "".join(f"{number:0{width}d}" for number in range(10**width))
    return np.frombuffer(text.encode(), np.uint8).reshape(-1, width)


@lru_cache(maxsize=1)
def _trailing_zeros() -> Longs:
    texts = (f"{number:03d}" for number in range(1000))
    return np.array([3 - len(text.rstrip("0")) for text in texts], np.int64)


def _infinity(value: int) -> bytes:
    return b"infinity" if value > 0 else b"-infinity"


def _offset(seconds: int) -> bytes:
    """`+HH[:MM[:SS]]`."""
    minutes, second = divmod(abs(seconds), 60)
    hour, minute = divmod(minutes, 60)
    text = b"%c%02d" % (b"-" if seconds < 0 else b"+", hour)
    if second:
        return text + b":%02d:%02d" % (minute, second)
    return text + b":%02d" % minute if minute else text


def _date(day: int) -> bytes:
    year, month, dom = _civil(day)
    if year > 0:
        return b"%04d-%02d-%02d" % (year, month, dom)
    return b"%04d-%02d-%02d BC" % (1 - year, month, dom)


def _stamp(local_us: int, offset: bytes) -> bytes:
    day, rest = divmod(local_us, DAY_US)
    date, _, era = _date(day).partition(b" ")
    text = b"%b %b%b" % (date, time_text(rest), offset)
    return text + b" BC" if era else text


def _civil(day: int) -> tuple[int, int, int]:
    """(year, month, day) of the proleptic Gregorian calendar; year 0 is 1 BC."""
    era, in_era = divmod(day + 719_468, 146_097)  # days since 0000-03-01
    year = (in_era - in_era // 1460 + in_era // 36_524 - in_era // 146_096) // 365
    in_year = in_era - (365 * year + year // 4 - year // 100)
    march = (5 * in_year + 2) // 153
    month = march + 3 if march < 10 else march - 9
    return year + era * 400 + (month <= 2), month, in_year - (153 * march + 2) // 5 + 1
