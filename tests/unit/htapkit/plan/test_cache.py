"""The cache gives what the planner would, and forgets."""

from __future__ import annotations

from dataclasses import replace

from htapkit.plan import LocalQuery, PlanCache, Relay, SessionView, plan
from htapkit.plan.skeleton import skeleton
from tests.unit.htapkit.plan.catalogs import SHOP, TIERED

SESSION = SessionView("shop")


def test_changing_literals_share_a_relayed_read() -> None:
    """A thousand point lookups are one entry."""
    cache = PlanCache()
    made = {cache.plan(f"SELECT * FROM orders WHERE id = {n}", SHOP, SESSION) for n in range(1000)}
    assert len(made) == 1
    assert len(cache) == 1
    relay = made.pop()
    assert isinstance(relay, Relay)
    assert relay.shape == skeleton("SELECT * FROM orders WHERE id = 4711")


def test_a_bad_literal_does_not_spoil_the_good_ones() -> None:
    """A date that cannot be read is relayed; the next one is answered here."""
    cache = PlanCache()
    for _ in range(2):
        bad = cache.plan("SELECT count(*) FROM orders WHERE placed > '2020-13-01'", SHOP, SESSION)
        good = cache.plan("SELECT count(*) FROM orders WHERE placed > '2020-12-01'", SHOP, SESSION)
        assert isinstance(bad, Relay)
        assert isinstance(good, LocalQuery)


def test_local_plans_are_kept_by_their_text() -> None:
    """Other literals are another plan."""
    cache = PlanCache()
    one, two = (f"SELECT count(*) FROM orders WHERE customer > {n}" for n in (1, 2))
    assert cache.plan(one, SHOP, SESSION) == plan(one, SHOP, SESSION)
    assert cache.plan(two, SHOP, SESSION) == plan(two, SHOP, SESSION)
    assert cache.plan(one, SHOP, SESSION) is cache.plan(one, SHOP, SESSION)


def test_statements_that_differ_in_a_time_never_share_scans() -> None:
    """Each has the bounds of its own literals, and the boundary of its own catalog."""
    cache = PlanCache()
    sql = "SELECT count(*) FROM visits WHERE at >= '2024-0{}-01'"
    for _ in range(2):
        for month in range(1, 9):
            made = cache.plan(sql.format(month), TIERED, SESSION)
            assert made == plan(sql.format(month), TIERED, SESSION)
            assert isinstance(made, LocalQuery)
            assert bool(made.scans) is (month < 6)
    whole = {table: replace(status, boundary=None) for table, status in TIERED.tables.items()}
    moved = replace(TIERED, version=2, tables=whole)
    made = cache.plan(sql.format(1), moved, SESSION)
    assert isinstance(made, LocalQuery)
    assert made.scans == ()


def test_session_and_types_are_part_of_the_key() -> None:
    """The same text under another route or with other parameter types is planned again."""
    cache = PlanCache()
    sql = "SELECT * FROM orders WHERE id = 1"
    assert isinstance(cache.plan(sql, SHOP, SESSION), Relay)
    assert isinstance(cache.plan(sql, SHOP, SessionView("shop", route="hot")), LocalQuery)
    sql = "SELECT count(*) FROM orders WHERE id > $1"
    assert isinstance(cache.plan(sql, SHOP, SESSION, (0,)), Relay)
    assert isinstance(cache.plan(sql, SHOP, SESSION, (20,)), LocalQuery)


def test_it_is_bounded() -> None:
    """The oldest goes."""
    cache = PlanCache(entries_max=5)
    for n in range(50):
        cache.plan(f"SELECT count(*) FROM orders WHERE customer > {n}", SHOP, SESSION)
    assert len(cache) == 5


def test_skeleton_keeps_what_is_not_a_literal() -> None:
    """Names with digits, quoted identifiers, parameters; kinds of literals are told apart."""
    kept = 'SELECT a1, "b\'2" FROM t3 WHERE x = $1'
    assert skeleton(kept) == kept
    assert skeleton("SELECT 1, 'it''s'") == skeleton("SELECT 25, 'x'")
    assert skeleton("SELECT 1") != skeleton("SELECT '1'")
    assert skeleton("SELECT 'a' -- '") is None
    assert skeleton("SELECT E'a\\'b'") is None
    assert skeleton("SELECT $$x$$") is None
    assert skeleton("SELECT /* 1 */ 2") is None
    assert skeleton("SELECT 'unterminated") is None
    assert skeleton("SELECT 1e5") is None or skeleton("SELECT 1e5") != skeleton("SELECT 1")
