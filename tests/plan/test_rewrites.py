"""Pairs of statements and what becomes of them, as in rewrites.sql and unions.sql."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from htapkit.plan import LakeScan, LocalQuery, Refuse, SessionView, plan
from htapkit.plan.literals import moment_text
from tests.unit.htapkit.plan.catalogs import SHOP, TIERED

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Pair:
    """A statement, and the parts of its plan."""

    name: str
    statement: str
    local: str
    finish: str = ""
    route: str = "hot"
    scans: tuple[str, ...] = ()
    refused: str = ""


def _pairs(file: str) -> list[Pair]:
    pairs = []
    for block in (_HERE / file).read_text().split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        statement, _, rewrite = body.partition("\n----\n")
        notes: dict[str, list[str]] = {}
        local = []
        for line in rewrite.strip().splitlines():
            word, _, rest = line.removeprefix("-- ").partition(": ")
            if line.startswith("-- ") and word in {"finish", "refused", "route", "scan"}:
                notes.setdefault(word, []).append(rest)
            elif "finish" in notes:
                notes["finish"].append(line)
            else:
                local.append(line)
        pairs.append(
            Pair(
                name,
                statement.strip(),
                "\n".join(local).strip(),
                "\n".join(notes.get("finish", [])),
                notes.get("route", ["hot"])[0],
                tuple(notes.get("scan", [])),
                "".join(notes.get("refused", [])),
            )
        )
    return pairs


def _noted(scan: LakeScan) -> str:
    edges = ("-" if e is None else moment_text(e) for e in (scan.lower, scan.upper))
    return ", ".join((scan.name, scan.table.name, *edges))


@pytest.mark.parametrize("pair", _pairs("rewrites.sql"), ids=lambda pair: pair.name)
def test_rewrite(pair: Pair) -> None:
    """The plan's SQL is the pair's other half."""
    made = plan(pair.statement, SHOP, SessionView("shop", zones=True))
    assert isinstance(made, LocalQuery), made
    assert made.sql == pair.local
    assert (made.finish.sql if made.finish else "") == pair.finish


@pytest.mark.parametrize("pair", _pairs("unions.sql"), ids=lambda pair: pair.name)
def test_union(pair: Pair) -> None:
    """So it is with tables that have a part in the lake; a scan is for what the SQL reads."""
    made = plan(pair.statement, TIERED, SessionView("shop"))
    assert isinstance(made, LocalQuery), made
    assert made.sql == pair.local
    assert (made.finish.sql if made.finish else "") == pair.finish
    assert made.route == pair.route
    assert tuple(_noted(scan) for scan in made.scans) == pair.scans


@pytest.mark.parametrize("pair", _pairs("spark.sql"), ids=lambda pair: pair.name)
def test_spark(pair: Pair) -> None:
    """What Spark gets, or why it gets nothing: the reason stands in EXPLAIN (ROUTE), too."""
    made = plan(pair.statement, TIERED, SessionView("shop", route="spark", spark=True))
    if pair.refused:
        assert isinstance(made, Refuse), made
        assert pair.refused in made.message
        assert any(pair.refused in each.reason for each in made.considered)
        return
    assert isinstance(made, LocalQuery), made
    assert made.spark is not None
    assert made.spark.sql == pair.local
    assert made.route == "spark"
