"""Pairs of statements and what becomes of them, as in rewrites.sql."""

from __future__ import annotations

from pathlib import Path

import pytest

from htapkit.plan import LocalQuery, SessionView, plan
from tests.unit.htapkit.plan.catalogs import SHOP

_TEXT = (Path(__file__).parent / "rewrites.sql").read_text()
_FINISH = "-- finish: "


def _pairs() -> list[tuple[str, str, str, str]]:
    pairs = []
    for block in _TEXT.split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        statement, _, rewrite = body.partition("\n----\n")
        local, _, finish = rewrite.partition(_FINISH)
        pairs.append((name, statement.strip(), local.strip(), finish.strip()))
    return pairs


@pytest.mark.parametrize(
    ("statement", "local", "finish"),
    [pair[1:] for pair in _pairs()],
    ids=[pair[0] for pair in _pairs()],
)
def test_rewrite(statement: str, local: str, finish: str) -> None:
    """The plan's SQL is the pair's other half."""
    made = plan(statement, SHOP, SessionView("shop"))
    assert isinstance(made, LocalQuery), made
    assert made.sql == local
    assert (made.finish.sql if made.finish else "") == finish
