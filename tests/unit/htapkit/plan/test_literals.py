"""Intervals as PostgreSQL reads them: what it calls an error is not read here either."""

from __future__ import annotations

import pytest

from htapkit.plan.literals import read_interval
from htapkit.plan.unproven import UnprovenError

_SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "months_days_micros"),
    [
        ("1 month - 1 day", (1, -1, 0)),
        ("1month -\t1day", (1, -1, 0)),
        ("- 2 days +1.5 sec", (0, -2, 3 * _SECOND // 2)),
        ("1 day 01:00", (0, 1, 3600 * _SECOND)),
    ],
)
def test_signs_may_stand_apart(text: str, months_days_micros: tuple[int, int, int]) -> None:
    assert read_interval(text, None) == months_days_micros


@pytest.mark.parametrize(
    "text", ["1 month-1 day", "1 day+ 2 hours", "2 hours10 mon", "1.5 sec-1 day", "1 day-01:00"]
)
def test_words_do_not_touch_what_comes_behind(text: str) -> None:
    with pytest.raises(UnprovenError):
        read_interval(text, None)
