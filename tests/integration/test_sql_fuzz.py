"""Random analysts' statements through the port against PostgreSQL: text, names, types, errors."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from htapkit.testing.installation import installations
from htapkit.testing.postgres import Database, PostgresServer
from tests import sql_fuzz_locale
from tests.fix_stack import StackStarter
from tests.sql_fuzz import Grammar
from tests.sql_fuzz_outcome import Manner, Outcome, differences, refused, run
from tests.sql_fuzz_sessions import way
from tests.sql_fuzz_words import Query

pytestmark = pytest.mark.integration

TABLES = Path(__file__).parents[1] / "sql_fuzz_tables.sql"
QUICK = 700  # on each of 16 and 18
LONG = 3_000
PART = 5  # of a session: before something changes in it, then, and when that is undone
SEED = "77"
HOT_SHARE_MIN = 0.2
_TIMEOUT = "57014"
_DISORDER = (
    "UPDATE sales SET note = note WHERE id % 3 = 0",
    "VACUUM sales",
    "UPDATE sales SET note = note WHERE id % 5 = 0",
)
"""New row versions fill holes at the source: floats are then added up in another order there."""


@dataclass(slots=True)
class Seen:
    """What a run has met."""

    routes: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sessions:
    """The source, the port, and the port with everything forced to be hot."""

    source: psycopg.Connection
    auto: psycopg.Connection
    forced: psycopg.Connection

    def all(self) -> tuple[psycopg.Connection, ...]:
        """In a fixed order."""
        return self.source, self.auto, self.forced

    def go(self, statements: Sequence[str]) -> None:
        """Run these in all, whatever they say; one may be a query, which is not forced."""
        self.forced.execute("SET htapkit.route = 'auto'")
        for connection in self.all():
            for statement in statements:
                connection.pgconn.exec_(statement.encode())
        self.forced.pgconn.exec_(b"SET htapkit.route = 'hot'")

    def roll_back(self) -> bool:
        """End the transactions of all if one is in error; whether one was."""
        failed = any(
            c.info.transaction_status == psycopg.pq.TransactionStatus.INERROR for c in self.all()
        )
        for connection in self.all() if failed else ():
            connection.pgconn.exec_(b"ROLLBACK")
        return failed


@contextmanager
def opened(database: Database, port: str) -> Iterator[Sessions]:
    """New sessions."""
    with (
        database.connect() as source,
        psycopg.connect(port, autocommit=True) as auto,
        psycopg.connect(port, autocommit=True) as forced,
    ):
        for connection in (source, auto, forced):
            connection.execute("SET statement_timeout = '20s'")
        for connection in (auto, forced):
            connection.execute("SET htapkit.freshness = 'strong'")
        yield Sessions(source, auto, forced)


def compare_all(database: Database, port: str, count: int, seed: str) -> Seen:
    """`count` statements on both; what went to the source is also forced to be hot."""
    seen, grammar = Seen(), Grammar(seed)
    for leg in range(0, count, 3 * PART):
        into, out = way(grammar.random)
        with opened(database, port) as sessions:
            for part, change in enumerate(((), into, out)):
                sessions.go(change)
                told = f"{leg}.{part} {'; '.join(into) if part else ''}"
                for _ in range(PART):
                    _compare(sessions, grammar, seen, told)
                    if sessions.roll_back():
                        sessions.go(into if part == 1 else ())
    return seen


def _compare(sessions: Sessions, grammar: Grammar, seen: Seen, where: str) -> None:
    query = grammar.statement(parameters=grammar.chance(0.35))
    simple = not query.values.oids and grammar.chance(0.5)
    prepared = not simple and grammar.chance(0.4)
    manner = Manner(simple, prepared, not simple and grammar.chance(0.4))
    theirs = run(sessions.source, query, manner)
    if any(each.sqlstate == _TIMEOUT for each in theirs):
        return
    ours = run(sessions.auto, query, manner)
    found = differences(query, theirs, ours, binary=manner.binary)
    shown = _last_route(sessions.auto)
    if shown != "hot":
        hot = run(sessions.forced, query, manner)
        if not refused(hot):
            shown = "forced"
            found = found or differences(query, theirs, hot, binary=manner.binary)
    seen.routes[shown] += 1
    if found:
        values = query.values if query.values.oids else ""
        seen.differences.append(f"{where} ({shown}, {manner}) {found}\n{query.sql}\n{values}")


def _last_route(port: psycopg.Connection) -> str:
    if port.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
        return "source"
    return str(port.execute("SHOW htapkit.last_route").fetchall()[0][0])


def check(database: Database, start_stack: StackStarter, collation: str, count: int) -> None:
    """With a seed that is printed. SQL_FUZZ_SEED=random hunts: every run sees new statements."""
    seed = os.environ.get("SQL_FUZZ_SEED", SEED)
    count = int(os.environ.get("SQL_FUZZ_COUNT", count))
    if seed == "random":
        seed = str(random.SystemRandom().randrange(10**9))
    print(f"SQL_FUZZ_SEED={seed} collation={collation}")
    database.execute(f"CREATE COLLATION sorted (PROVIDER = libc, LOCALE = '{collation}')")
    database.execute(TABLES.read_text())
    database.execute("ANALYZE")
    stack = start_stack(database)
    for statement in _DISORDER:
        database.execute(statement)
    seen = compare_all(database, stack.dsn(), count, seed)
    print(dict(seen.routes))
    found = "\n\n".join(seen.differences[:5])
    assert not seen.differences, f"seed {seed}, {len(seen.differences)} differ:\n{found}"
    assert seen.routes["hot"] >= HOT_SHARE_MIN * seen.routes.total(), (seed, seen.routes)


@pytest.fixture(scope="module")
def locale() -> Iterator[Path | None]:
    """A folder with a locale that sorts as people do; None: text sorts by its bytes here."""
    with sql_fuzz_locale.compiled() as folder:
        yield folder


@pytest.fixture(scope="module")
def collation(locale: Path | None) -> str:
    """The locale's name."""
    return sql_fuzz_locale.NAME if locale else "C.utf8"


@pytest.fixture(scope="module", params=[16, 18], ids=["pg16", "pg18"])
def pg(request: pytest.FixtureRequest, locale: Path | None) -> Iterator[PostgresServer]:
    """A server that knows the locale."""
    if request.param not in installations():
        pytest.skip(f"PostgreSQL {request.param} is not installed here")
    with pytest.MonkeyPatch.context() as environment:
        if locale:
            environment.setenv("LOCPATH", str(locale))
        with PostgresServer(request.param) as server:
            yield server


def test_quick(database: Database, start_stack: StackStarter, collation: str) -> None:
    check(database, start_stack, collation, QUICK)


@pytest.mark.long
def test_long(database: Database, start_stack: StackStarter, collation: str) -> None:
    check(database, start_stack, collation, LONG)


@pytest.fixture
def grammar() -> Grammar:
    return Grammar("fixed")


def test_a_seed_gives_the_same_statements(grammar: Grammar) -> None:
    first = [grammar.statement().sql for _ in range(20)]
    again = Grammar("fixed")
    assert [again.statement().sql for _ in range(20)] == first


def _said(sqlstate: str, *, early: bool = False) -> Outcome:
    return Outcome(sqlstate, "words", (), (), early)


@pytest.mark.parametrize(
    ("sql", "early", "open_"),
    [
        ("SELECT 1 / 0 FROM sales WHERE false", True, True),  # a constant, computed in planning
        ("SELECT id / (id - 9) FROM sales", False, False),
        ("SELECT id / (id - 9) FROM sales ORDER BY 1 LIMIT 1", False, True),
        ("SELECT id FROM sales WHERE 1 / id = 1 OR id > -1", False, True),
        ("SELECT id FROM sales WHERE 1 / id = 1 AND id > -1", False, False),
        ("WITH w AS (SELECT sum(1 / id) FROM sales) SELECT count(*) FROM w", False, True),
        ("SELECT 1 FROM sales a JOIN sales b ON a.id = b.id AND 1 / a.id = 1", False, True),
    ],
)
def test_which_errors_of_values_are_open(sql: str, *, early: bool, open_: bool) -> None:
    """An empty answer is no excuse by itself."""
    found = differences(Query(sql, []), [_said("22012", early=early)], [_said("")])
    assert (found == "") == open_, found
