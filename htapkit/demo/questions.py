"""Asks source and copy the same five questions, and compares time and rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from htapkit.sqlfiles import sql
from htapkit.testing.slt import Row, WireEngine

QUESTIONS = ("demo/q1", "demo/q2", "demo/q3", "demo/q4", "demo/q5")
TIMES = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question, asked on both sides."""

    title: str
    rows: int
    source_ms: float
    copy_ms: float
    equal: bool
    route: str


def compare(source_dsn: str, copy_dsn: str) -> Iterator[Comparison]:
    """Ask all; nothing may be written meanwhile. Times are the best of a few, taken in turns."""
    with (
        WireEngine(source_dsn, "source") as source,
        WireEngine(copy_dsn, "copy", routes=True) as copy,
    ):
        copy.run("SET htapkit.freshness = 'strong'")
        for name in QUESTIONS:
            text = sql(name)
            pairs = [(_timed(source, text), _timed(copy, text)) for _ in range(TIMES)]
            yield Comparison(
                title=text.partition("\n")[0].removeprefix("-- "),
                rows=len(pairs[0][0][1]),
                source_ms=min(pair[0][0] for pair in pairs),
                copy_ms=min(pair[1][0] for pair in pairs),
                equal=all(pair[0][1] == pair[1][1] for pair in pairs),
                route=copy.last_route() or "",
            )


def _timed(engine: WireEngine, text: str) -> tuple[float, Sequence[Row]]:
    began = time.perf_counter()
    rows = engine.run(text)
    return (time.perf_counter() - began) * 1000, rows
