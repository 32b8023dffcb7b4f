"""What a source without SQL is asked itself: what of a statement it can use, and when."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from htapkit.lookups import Condition, Later, Lookup, Nearest
from htapkit.model import Route, TableState
from htapkit.plan import LocalQuery, Plan, Refuse, SessionView, plan
from tests.unit.htapkit.plan.catalogs import catalog, status

_COLUMNS = "id int4, kind text, at timestamptz, day date, u uuid, ok bool, n numeric, e vector(2)"
_CATALOG = catalog(
    status("items", _COLUMNS, source="events"),
    status("copied", _COLUMNS, source="events", state=TableState.COPYING),
    status("orders", "id int4, note text", source="shop"),
)
_AUTO = SessionView("events", alone=True, lookups=("events",))
_THERE = SessionView("events", alone=True, lookups=("events",), route="source")
_UUID = "6ecd8c99-4036-403d-bf84-cf8400f67836"


def _plan(sql: str, session: SessionView = _THERE, types: tuple[int, ...] = ()) -> Plan:
    return plan(sql, _CATALOG, session, types)


def _lookup(sql: str, types: tuple[int, ...] = ()) -> Lookup:
    made = _plan(sql, types=types)
    assert isinstance(made, LocalQuery), made
    assert made.route is Route.SOURCE
    assert made.lookup is not None
    return made.lookup


@pytest.mark.parametrize(
    ("where", "conditions"),
    [
        ("id = 1", (Condition("id", "=", (1,)),)),
        ("-1 = id", (Condition("id", "=", (-1,)),)),
        ("5 > id AND (id >= '2')", (Condition("id", "<", (5,)), Condition("id", ">=", (2,)))),
        ("kind IN ('a', NULL)", (Condition("kind", "=", ("a", None)),)),
        ("kind = 'a'::varchar", (Condition("kind", "=", ("a",)),)),
        (
            "id BETWEEN 1 AND 2 AND ok = true",
            (
                Condition("id", ">=", (1,)),
                Condition("id", "<=", (2,)),
                Condition("ok", "=", (True,)),
            ),
        ),
        (
            "at > '2026-01-02 03:04:05.5Z' AND day = '2026-01-02'",
            (
                Condition("at", ">", (datetime(2026, 1, 2, 3, 4, 5, 500_000, UTC),)),
                Condition("day", "=", (date(2026, 1, 2),)),
            ),
        ),
        (f"u = '{_UUID.upper()}'", (Condition("u", "=", (_UUID,)),)),
    ],
)  # fmt: skip
def test_conditions(where: str, conditions: tuple[Condition, ...]) -> None:
    """Comparisons of columns with constants, as the column's type reads them."""
    made = _lookup(f"SELECT kind FROM public.items WHERE {where}")
    assert made.conditions == conditions
    assert made.complete


@pytest.mark.parametrize(
    "where",
    ["id = 1 OR id = 2", "id + 1 = 2", "id = 1.5", "kind LIKE 'a%'", "NOT id = 1",
     "at = day", "id <> 1", "n = 1", "id NOT IN (1)", "id IS NULL", "kind = 'a'::bpchar"],
)  # fmt: skip
def test_what_the_source_cannot_use(where: str) -> None:
    """It stays in the SQL, and only there: rows of the source are filtered by it."""
    made = _plan(f"SELECT kind FROM public.items WHERE id = 1 AND ({where})")
    if isinstance(made, Refuse):
        return  # that no copy computes it, either, is not this test's
    assert isinstance(made, LocalQuery)
    assert made.lookup is not None
    assert made.lookup.conditions == (Condition("id", "=", (1,)),)
    assert not made.lookup.complete
    assert "WHERE" in made.sql


@pytest.mark.parametrize(
    "beside",
    [
        "items JOIN (VALUES (7, 2)) AS v(id, x) ON true WHERE v.id = 7 AND items.id",
        'items AS "V" CROSS JOIN (SELECT 7 AS id) AS v WHERE V.id = 7 AND "V".id',
    ],
)
def test_columns_of_what_stands_beside_the_table(beside: str) -> None:
    """They are no conditions of the table's own columns, whatever they are called."""
    made = _lookup(f"SELECT kind FROM public.{beside} = 1")
    assert made.conditions == (Condition("id", "=", (1,)),)
    assert not made.complete
    own = _lookup("SELECT kind FROM public.items AS I WHERE i.id = 1 AND I.kind = 'a'")
    assert own.complete


def test_parameters() -> None:
    """By their place among the values of the local SQL, if their type is the column's."""
    made = _lookup("SELECT id FROM public.items WHERE kind = $2 AND id = $1 LIMIT $3", (20, 25, 20))
    assert made.conditions == (
        Condition("kind", "=", (Later(0),)),
        Condition("id", "=", (Later(1),)),
    )
    assert made.limit == Later(2)
    assert not _lookup("SELECT id FROM public.items WHERE id = $1", (1700,)).complete


@pytest.mark.parametrize(
    ("tail", "order", "limit"),
    [
        ("LIMIT 3", (), 3),
        ("ORDER BY at DESC, id LIMIT 3", (("at", True), ("id", False)), 3),
        ("ORDER BY 1 LIMIT 3", (("kind", False),), 3),
        ("ORDER BY k LIMIT 3", (("kind", False),), 3),
        ("ORDER BY id", (("id", False),), None),
        ("ORDER BY id + 1 LIMIT 3", (), None),
        ("LIMIT 3 OFFSET 1", (), None),
        ("GROUP BY kind LIMIT 3", (), None),
    ],
)
def test_limits(tail: str, order: tuple[tuple[str, bool], ...], limit: int | None) -> None:
    """Only where the first rows by the columns' order are all that is needed."""
    made = _lookup(f"SELECT kind AS k FROM public.items WHERE id = 1 {tail}")
    assert (made.order, made.limit) == (order, limit)


def test_the_nearest_only_where_the_source_is_asked_for() -> None:
    """An index may miss some, which nobody gets without a word."""
    sql = "SELECT id, e <=> '[1,2]' AS d FROM public.{} ORDER BY d LIMIT 2"
    made = _lookup(sql.format("items"))
    assert made.nearest == Nearest("e", "<=>", "[1, 2]")
    assert made.limit == 2
    first = sql.replace("ORDER BY d", "ORDER BY d NULLS FIRST")  # no index has them
    assert _lookup(first.format("items")).nearest is None
    asked = _plan(sql.format("copied"), _AUTO)
    assert isinstance(asked, LocalQuery)
    assert asked.lookup is not None
    assert (asked.lookup.nearest, asked.lookup.limit) == (None, None)


def test_which_way_in_auto() -> None:
    """The copy first; the source where there is none, or it is not fresh enough."""
    hot = _plan("SELECT kind FROM public.items WHERE id = 1", _AUTO)
    assert isinstance(hot, LocalQuery)
    assert hot.route is Route.HOT
    assert hot.lookup is None
    assert hot.there is not None
    assert hot.there.lookup == Lookup(
        hot.access[0].table, ("id", "kind"), (Condition("id", "=", (1,)),)
    )
    there = _plan("SELECT kind FROM public.copied WHERE id = 1", _AUTO)
    assert isinstance(there, LocalQuery)
    assert [(each.route, each.chosen) for each in there.considered] == [
        (Route.HOT, False),
        (Route.SOURCE, True),
    ]
    assert "copying" in there.considered[0].reason
    forced = _plan(
        "SELECT kind FROM public.copied WHERE id = 1",
        SessionView("events", alone=True, lookups=("events",), route="hot"),
    )
    assert isinstance(forced, Refuse)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT 1 FROM public.items a, public.items b", "more than one table"),
        ("SELECT id FROM (SELECT id FROM public.items) x", "in a subquery"),
        ("SELECT x FROM public.items AS t(x)", "names for its columns"),
        ("SELECT nothing FROM public.items", "nothing"),
        ("DELETE FROM public.items", "has no PostgreSQL"),
    ],
)
def test_what_is_not_asked_of_the_source(sql: str, why: str) -> None:
    """It is refused, with the reason."""
    made = _plan(sql)
    assert isinstance(made, Refuse)
    assert why in made.message


def test_from_the_session_of_another_source() -> None:
    """Its own tables are its PostgreSQL's; the others' go the way that is set."""
    shop = SessionView("shop", lookups=("events",), route="source")
    made = _plan("SELECT kind FROM events.public.items WHERE id = 1", shop)
    assert isinstance(made, LocalQuery)
    assert made.lookup is not None
    assert made.sources == ("events",)
    assert not isinstance(_plan("SELECT note FROM orders WHERE id = 1", shop), LocalQuery)
