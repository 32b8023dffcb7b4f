"""UTC offsets of many instants in one time zone.

`zoneinfo` answers for one datetime at a time, and only in the years 1 to 9999. Here each day is
asked once and remembered; days on which the offset changes are asked per instant. Earlier instants
have the zone's first offset; later ones repeat the rules of 400 years before, as in PostgreSQL.

The time zone database is the one that Python finds on this machine. Where the source has another
edition, offsets may differ for instants before 1970 and for rules that changed lately: ask it
`zone_question`, and print nothing in the zone unless it says `zone_answer`.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

import numpy as np
import numpy.typing as npt

DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CYCLE_DAYS = 146_097  # the Gregorian calendar repeats after 400 years
_DAY_MIN = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH).days
_DAY_MAX = (datetime(9999, 12, 29, tzinfo=UTC) - _EPOCH).days
_WINDOW_BITS = 14  # days per remembered window: 45 years
_UNKNOWN = np.iinfo(np.int32).min
_CHANGES = _UNKNOWN + 1

_SAMPLES_FROM, _SAMPLES_TO, _SAMPLES_STEP = -3_786_912_000, 4_102_444_800, 250_000  # 1850 to 2100
SAMPLES = range(_SAMPLES_FROM, _SAMPLES_TO + 1, _SAMPLES_STEP)
"""Seconds since 1970, every few days at another hour."""

ZONE_DIGEST_SQL = """\
SELECT md5(string_agg(extract(timezone FROM to_timestamp(s))::int::text, ',' ORDER BY s))
FROM generate_series(-3786912000, 4102444800, 250000) AS s"""
"""For the source, in the zone in question: what `zone_digest` must give for the same zone."""

Longs = npt.NDArray[np.int64]


class ZoneOffsets:
    """The offsets of one zone, remembered by day."""

    def __init__(self, zone: tzinfo) -> None:
        """Ask nothing yet."""
        self._zone = zone
        self._windows: dict[int, npt.NDArray[np.int32]] = {}

    def at(self, instant_us: int) -> int:
        """Seconds east of UTC at one instant (microseconds since 1970)."""
        day, rest = divmod(instant_us, DAY_US)
        if not _DAY_MIN <= day <= _DAY_MAX:
            day = _within(day)
        return self._ask(day * DAY_US + rest)

    def __call__(self, instants_us: Longs) -> Longs:
        """Seconds east of UTC at each instant."""
        days = instants_us // DAY_US
        instants = instants_us
        if days.min(initial=0) < _DAY_MIN or days.max(initial=0) > _DAY_MAX:
            rest = instants_us - days * DAY_US
            days = np.where(
                days > _DAY_MAX,
                _DAY_MAX - _CYCLE_DAYS + 1 + (days - _DAY_MAX - 1) % _CYCLE_DAYS,
                np.maximum(days, _DAY_MIN),
            )
            instants = days * DAY_US + rest
        windows = days >> _WINDOW_BITS
        first, last = int(windows.min(initial=0)), int(windows.max(initial=0))
        if first == last:
            return self._window(first, days, instants)
        found = np.empty(len(days), np.int64)
        for window in np.unique(windows).tolist():
            rows = windows == window
            found[rows] = self._window(window, days[rows], instants[rows])
        return found

    def _window(self, window: int, days: Longs, instants: Longs) -> Longs:
        known = self._windows.get(window)
        if known is None:
            known = np.full(1 << _WINDOW_BITS, _UNKNOWN, np.int32)
            self._windows[window] = known
        slots = days - (window << _WINDOW_BITS)
        found = known[slots]
        missing = found == _UNKNOWN
        if missing.any():
            for day in np.unique(days[missing]).tolist():
                start, end = self._ask(day * DAY_US), self._ask((day + 1) * DAY_US - 1)
                known[day - (window << _WINDOW_BITS)] = start if start == end else _CHANGES
            found = known[slots]
        offsets = found.astype(np.int64)
        for row in np.flatnonzero(found == _CHANGES).tolist():
            offsets[row] = self._ask(int(instants[row]))
        return offsets

    def _ask(self, instant_us: int) -> int:
        moment = _EPOCH + timedelta(microseconds=instant_us)
        offset = self._zone.fromutc(moment.replace(tzinfo=self._zone)).utcoffset()
        return int(offset.total_seconds()) if offset is not None else 0


def _within(day: int) -> int:
    if day < _DAY_MIN:
        return _DAY_MIN
    return _DAY_MAX - _CYCLE_DAYS + 1 + (day - _DAY_MAX - 1) % _CYCLE_DAYS


@lru_cache(maxsize=64)
def zone_offsets(zone: tzinfo) -> ZoneOffsets | None:
    """The offsets of a zone; None for UTC itself, which has none."""
    fixed = getattr(zone, "key", None) is None
    if zone is UTC or getattr(zone, "key", "") in {"UTC", "Etc/UTC"}:
        return None
    if fixed and zone.utcoffset(None) == timedelta(0):
        return None
    return ZoneOffsets(zone)


@lru_cache(maxsize=64)
def zone_digest(zone: tzinfo) -> str:
    """A digest of the zone's offsets, every few days at another hour, from 1850 to 2100."""
    samples = np.arange(_SAMPLES_FROM, _SAMPLES_TO + 1, _SAMPLES_STEP) * 1_000_000
    offsets = ",".join(map(str, ZoneOffsets(zone)(samples).tolist()))
    return hashlib.md5(offsets.encode(), usedforsecurity=False).hexdigest()


_QUESTION = """\
SELECT pg_catalog.md5(pg_catalog.string_agg(
         extract(timezone FROM pg_catalog.to_timestamp(s))::pg_catalog.int4::pg_catalog.text,
         ',' ORDER BY s))
  FROM (SELECT s FROM pg_catalog.generate_series({first}, {last}, {step}) AS s
        UNION ALL
        SELECT s FROM pg_catalog.unnest('{{{changes}}}'::pg_catalog.int8[]) AS s) AS t (s)"""


def zone_question(zone: tzinfo) -> str:
    """For the source, in that zone: its answer is `zone_answer` if its edition is ours.

    Samples every few days show changes that we do not know of; the last second before each of our
    own changes and the first one after it show whether they are the source's, too.
    """
    return _QUESTION.format(
        first=_SAMPLES_FROM,
        last=_SAMPLES_TO,
        step=_SAMPLES_STEP,
        changes=",".join(map(str, _changes(zone)[0])),
    )


def zone_answer(zone: tzinfo) -> str:
    """What the source must answer to `zone_question`."""
    return _changes(zone)[1]


def changes(zone: tzinfo) -> list[tuple[int, int, int]]:
    """(first second after it, offset before and after) of each change of the zone's offset (s)."""
    offsets = ZoneOffsets(zone)
    return [
        (second, offsets.at((second - 1) * 1_000_000), offsets.at(second * 1_000_000))
        for second in _changes(zone)[0][1::2]
    ]


@lru_cache(maxsize=64)
def _changes(zone: tzinfo) -> tuple[tuple[int, ...], str]:
    """(seconds around the changes of the zone's offset, the digest)."""
    offsets = ZoneOffsets(zone)
    samples = np.arange(_SAMPLES_FROM, _SAMPLES_TO + 1, _SAMPLES_STEP)
    found = offsets(samples * 1_000_000)
    around: list[int] = []
    for index in np.flatnonzero(np.diff(found)).tolist():
        before, after = int(samples[index]), int(samples[index + 1])
        first = int(found[index])
        while after - before > 1:
            middle = (before + after) // 2
            same = offsets.at(middle * 1_000_000) == first
            before, after = (middle, after) if same else (before, middle)
        around += [before, after]
    asked = [(int(s), int(o)) for s, o in zip(samples, found, strict=True)]
    asked += [(second, offsets.at(second * 1_000_000)) for second in around]
    text = ",".join(str(offset) for _, offset in sorted(asked))
    return tuple(around), hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
