"""Comparing editions of the time zone database, and how long that holds."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

from htapkit.serve.pgwire.database import ZONE_SECONDS, ZoneEditions
from htapkit.serve.pgwire.zone_editions import computing_answer, computing_question
from htapkit.serve.pgwire.zone_offsets import zone_answer, zone_question

BERLIN_SUMMER_2024 = 1_711_846_800  # 2024-03-31 01:00 UTC, by EU directive 2000/84/EC


def test_the_seconds_around_each_change_are_asked_for() -> None:
    question = zone_question(ZoneInfo("Europe/Berlin"))
    assert f"{BERLIN_SUMMER_2024 - 1},{BERLIN_SUMMER_2024}," in question


def test_zones_with_the_same_offsets_have_the_same_answer() -> None:
    assert zone_answer(ZoneInfo("Asia/Kolkata")) == zone_answer(ZoneInfo("Asia/Calcutta"))
    assert zone_answer(ZoneInfo("Asia/Tokyo")) != zone_answer(ZoneInfo("Asia/Seoul"))
    assert zone_answer(ZoneInfo("Etc/GMT")) == zone_answer(UTC)


def test_an_edition_is_asked_for_again_after_a_while() -> None:
    zones = ZoneEditions()
    assert zones.get("Asia/Tokyo", 100.0) is None
    zones.put("Asia/Tokyo", 100.0, agrees=False)
    assert zones.get("Asia/Tokyo", 100.0 + ZONE_SECONDS - 1) is False
    assert zones.get("Asia/Tokyo", 100.0 + ZONE_SECONDS) is None


def test_computing_is_asked_for_around_each_change() -> None:
    """Local times, too: 02:00 to 03:00 is skipped, which are 3600 and 7200 s after the instant."""
    question = computing_question(ZoneInfo("Europe/Berlin"))
    assert f"{BERLIN_SUMMER_2024 - 1},{BERLIN_SUMMER_2024}," in question
    assert f"{BERLIN_SUMMER_2024 + 3599},{BERLIN_SUMMER_2024 + 3600}," in question
    assert f"{BERLIN_SUMMER_2024 + 7199},{BERLIN_SUMMER_2024 + 7200}," in question


def test_zones_that_differ_are_computed_in_differently() -> None:
    tokyo, seoul = ZoneInfo("Asia/Tokyo"), ZoneInfo("Asia/Seoul")
    assert len({computing_answer(tokyo), computing_answer(seoul), ""}) == 3
