"""Partitions whose rows changed without events: which rows of the table are in doubt then."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from htapkit.model import Broken, Column, Doubt, SchemaChange, SqlType, TableId, TableSchema
from htapkit.spi import Discovered
from htapkit_postgres.fingerprint import Fingerprint, Part, compare
from htapkit_postgres.ranges import Span, around

TABLE = TableId("shop", "public", "events")
ID = Column("id", SqlType("int8", 20), 1, nullable=False)
DAY = Column("day", SqlType("date", 1082), 2, nullable=False)
V = Column("v", SqlType("text", 25), 3)
SCHEMA = TableSchema(TABLE, (ID, DAY, V), key=("id", "day"))
MONTHS = [f"2026-{n:02}-01" for n in range(1, 8)]


def part(oid: int, span: Span | None, *, file: int = 0, edge: str = "5") -> Part:
    made = Part(edge, file or oid, "m", born=True)
    return replace(made, column=2, low=span[0], high=span[1]) if span else made


def printed(*parts: Part) -> Fingerprint:
    """The root is 1; each partition is named by its first file."""
    return Fingerprint(1, {1: Part("", 0, "m"), **{p.file % 100: p for p in parts}}, "99")


def month(number: int, *, file: int = 0, edge: str = "5") -> Part:
    return part(number + 10, (MONTHS[number], MONTHS[number + 1]), file=file, edge=edge)


ALL = [month(n) for n in range(6)]


def doubt(old: Fingerprint, new: Fingerprint, schema: TableSchema = SCHEMA) -> Doubt | None:
    verdict = compare(SCHEMA, old.text(), Discovered(schema, new.text()))
    assert isinstance(verdict, Broken)
    assert verdict.copy_again
    return verdict.doubt


def spans(found: Doubt | None) -> list[Span]:
    assert found is not None
    tokens = [json.loads(found.ranges[n].token) for n in sorted(found.doubtful)]
    assert all(token["place"] == 1 for token in tokens), "the second column of the key"
    return [(token["low"], token["high"]) for token in tokens]


CASES = {
    "dropped, the first": (ALL, ALL[1:], [(MONTHS[0], MONTHS[1])]),
    "dropped, in the middle": (ALL, [*ALL[:2], *ALL[3:]], [(MONTHS[2], MONTHS[3])]),
    "dropped, two that touch": (
        ALL,
        ALL[2:],
        [(MONTHS[0], MONTHS[1]), (MONTHS[1], MONTHS[2])],
    ),
    "truncated": (ALL, [month(0, file=110), *ALL[1:]], [(MONTHS[0], MONTHS[1])]),
    "detached and attached again": (
        ALL,
        [month(0, edge="6"), *ALL[1:]],
        [(MONTHS[0], MONTHS[1])],
    ),
    "attached, and another dropped": (
        ALL[:5],
        [*ALL[1:5], replace(ALL[5], born=False)],
        [(MONTHS[0], MONTHS[1]), (MONTHS[5], MONTHS[6])],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_in_doubt(case: str) -> None:
    old, new, expected = CASES[case]
    assert spans(doubt(printed(*old), printed(*new))) == expected


REST = part(50, None)
WHOLE = {
    "none is left as it was": (ALL[:1], []),
    "the default partition is emptied": ([*ALL, REST], [*ALL, part(50, None, file=150)]),
    "by lists or hashes": ([part(11, None), part(12, None)], [part(12, None)]),
    "by an infinity": ([*ALL, part(60, ("2027-01-01", "infinity"))], ALL),
    "before Christ": ([*ALL, part(60, ("0044-03-15 BC", "0001-01-01"))], ALL),
}


@pytest.mark.parametrize("case", WHOLE)
def test_all_rows_are_in_doubt(case: str) -> None:
    old, new = WHOLE[case]
    assert doubt(printed(*old), printed(*new)) is None


def test_columns_that_changed_too() -> None:
    more = replace(SCHEMA, columns=(ID, DAY, V, Column("x", SqlType("int4", 23), 4)))
    assert doubt(printed(*ALL), printed(*ALL[1:]), more) is None


def test_bounds_that_were_not_known_are_noted() -> None:
    """What an earlier version kept has none: a new fingerprint is kept, and nothing is copied."""
    bare = printed(*(replace(p, column=0, low=None, high=None) for p in ALL))
    now = Discovered(SCHEMA, printed(*ALL).text())
    assert compare(SCHEMA, bare.text(), now) == SchemaChange(SCHEMA, faithful=True)
    assert compare(SCHEMA, now.fingerprint, now) is None


@pytest.mark.parametrize(
    ("given", "ranges", "doubtful"),
    [
        ([("5", "9")], [(None, "5"), ("5", "9"), ("9", None)], {1}),
        ([(None, "9")], [(None, "9"), ("9", None)], {0}),
        ([("-5", None)], [(None, "-5"), ("-5", None)], {1}),
        (
            [("10", "20"), ("9", "10")],
            [(None, "9"), ("9", "10"), ("10", "20"), ("20", None)],
            {1, 2},
        ),
        (
            [("10", "30"), ("5", "20")],
            [(None, "5"), ("5", "10"), ("10", "20"), ("20", "30"), ("30", None)],
            {1, 2, 3},
        ),
        ([(None, "5"), ("0", None)], None, set()),
        ([(None, None)], None, set()),
    ],
)
def test_ranges_around_spans(
    given: Sequence[Span], ranges: list[Span] | None, doubtful: set[int]
) -> None:
    found = around(SCHEMA, 1, given)
    if ranges is None:
        assert found is None
        return
    assert found is not None
    tokens = [json.loads(split.token) for split in found.ranges]
    assert [(t["low"], t["high"]) for t in tokens] == ranges
    assert found.doubtful == doubtful


def test_a_column_that_is_not_of_the_key() -> None:
    assert around(SCHEMA, 3, [("a", "b")]) is None
    assert around(replace(SCHEMA, key=("id",)), 2, [(MONTHS[0], MONTHS[1])]) is None
