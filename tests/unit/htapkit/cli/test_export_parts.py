"""Parts of an export: which there are, and what a repeat goes on from."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from htapkit.cli.export_parts import LIST, PartList, PartsAsked, parts_of
from htapkit.errors import ConfigError
from htapkit.export import Folder

ASKED = PartsAsked("shop.public.t", "2026-01-30T12:00", "2026-03-01", "month", "parquet")
DONE = {"rows": 2, "bytes": 3, "position": "5", "route": "hot"}


def at(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[misc,arg-type]


def test_the_range_is_cut_at_every_period() -> None:
    """Nothing of it is in two parts or in none, whatever it begins with."""
    found = parts_of(ASKED, at(2026, 1, 30, 12), at(2026, 3, 1))
    assert [(p.name, p.begin, p.end) for p in found] == [
        ("2026-01.parquet", at(2026, 1, 30, 12), at(2026, 2, 1)),
        ("2026-02.parquet", at(2026, 2, 1), at(2026, 3, 1)),
    ]
    hours = replace(ASKED, unit="hour", format="csv")
    found = parts_of(hours, at(2026, 2, 28, 23, 59), at(2026, 3, 1, 0, 0, 1))
    assert [p.name for p in found] == ["2026-02-28T23.csv", "2026-03-01T00.csv"]
    assert found[0].end == found[1].begin
    assert len(parts_of(replace(ASKED, unit="day"), at(2026, 1, 1), at(2027, 1, 1))) == 365
    for begin, end, why in (
        (at(2026, 1, 1), at(2026, 1, 1), "no time lies in it"),
        (at(2026, 1, 1), at(2026, 3, 1), "more than 1000 parts"),
    ):
        with pytest.raises(ConfigError, match=why):
            parts_of(hours, begin, end)


def listed(folder: Path, asked: PartsAsked = ASKED) -> PartList:
    """As a new job has it."""
    made = PartList(Folder(folder), "a/t", asked)
    made.begin()
    return made


def test_a_repeat_goes_on_until_it_is_complete(tmp_path: Path) -> None:
    """From what is listed and there; a complete one is made anew."""
    first = listed(tmp_path)
    for name in ("1", "2", "3"):
        (tmp_path / "a" / "t" / name).write_bytes(b"abc")
        first.add(name, DONE)
    assert first.rows == 6
    (tmp_path / "a" / "t" / "2").write_bytes(b"shorter by two"[:1])
    (tmp_path / "a" / "t" / "3").unlink()
    again = listed(tmp_path)
    assert dict(again.done) == {"1": {"rows": 2, "bytes": 3, "position": "5"}}
    again.write(complete=True)
    assert listed(tmp_path).done == {}
    assert json.loads((tmp_path / "a" / "t" / LIST).read_text())["complete"] is False


def test_another_export_is_not_mixed_with_it(tmp_path: Path) -> None:
    """Nor what is no list at all."""
    listed(tmp_path)
    for other in (replace(ASKED, end="2026-04-01"), replace(ASKED, table="shop.public.u")):
        with pytest.raises(ConfigError, match="holds another export"):
            listed(tmp_path, other)
    for text in ("[]", "{", "{}"):
        (tmp_path / "a" / "t" / LIST).write_text(text)
        with pytest.raises(ConfigError, match="is no list of parts"):
            listed(tmp_path)
