"""Random analysts' statements through the port against PostgreSQL: text, names, types, errors."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from htapkit.testing.postgres import Database
from tests.fix_stack import StackStarter
from tests.sql_fuzz import Grammar
from tests.sql_fuzz_outcome import difference, refused, run

pytestmark = pytest.mark.integration

TABLES = Path(__file__).parents[1] / "sql_fuzz_tables.sql"
QUICK = 700  # on each of 16 and 18
LONG = 3_000
SEED = "77"
HOT_SHARE_MIN = 0.3
_TIMEOUT = "57014"


@dataclass(slots=True)
class Seen:
    """What a run has met."""

    routes: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def compare_all(database: Database, port: str, count: int, seed: str) -> Seen:
    """`count` statements on both; what went to the source is also forced to be hot."""
    seen = Seen()
    grammar = Grammar(seed)
    with (
        database.connect() as source,
        psycopg.connect(port, autocommit=True) as auto,
        psycopg.connect(port, autocommit=True) as forced,
    ):
        for connection in (source, auto, forced):
            connection.execute("SET statement_timeout = '20s'")
        forced.execute("SET htapkit.route = 'hot'")
        for number in range(count):
            query = grammar.statement(parameters=grammar.chance(0.25))
            simple = not query.values.oids and grammar.chance(0.5)
            theirs = run(source, query, simple=simple)
            if theirs.sqlstate == _TIMEOUT:
                continue
            ours = run(auto, query, simple=simple)
            shown = auto.execute("SHOW htapkit.last_route").fetchall()[0][0]
            if shown != "hot":
                hot = run(forced, query, simple=simple)
                if not refused(hot):
                    shown, ours = "forced", ours if difference(query, theirs, ours) else hot
            seen.routes[str(shown)] += 1
            found = difference(query, theirs, ours)
            if found:
                values = query.values if query.values.oids else ""
                seen.differences.append(f"{number} ({shown}) {found}\n{query.sql}\n{values}")
    return seen


def check(database: Database, start_stack: StackStarter, count: int) -> None:
    """With a seed that is printed. SQL_FUZZ_SEED=random hunts: every run sees new statements."""
    seed = os.environ.get("SQL_FUZZ_SEED", SEED)
    if seed == "random":
        seed = str(random.SystemRandom().randrange(10**9))
    print(f"SQL_FUZZ_SEED={seed}")
    database.execute(TABLES.read_text())
    database.execute("ANALYZE")
    stack = start_stack(database)
    seen = compare_all(database, stack.dsn(), count, seed)
    print(dict(seen.routes))
    assert not seen.differences, f"seed {seed}:\n" + "\n\n".join(seen.differences[:5])
    assert seen.routes["hot"] >= HOT_SHARE_MIN * seen.routes.total(), (seed, seen.routes)


def test_quick(database: Database, start_stack: StackStarter) -> None:
    check(database, start_stack, QUICK)


@pytest.mark.long
def test_long(database: Database, start_stack: StackStarter) -> None:
    check(database, start_stack, LONG)


@pytest.fixture
def grammar() -> Grammar:
    return Grammar("fixed")


def test_a_seed_gives_the_same_statements(grammar: Grammar) -> None:
    first = [grammar.statement().sql for _ in range(20)]
    again = Grammar("fixed")
    assert [again.statement().sql for _ in range(20)] == first
