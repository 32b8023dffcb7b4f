"""Names, routes, access, parameters: what the plan says besides its SQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from htapkit.model import Access, Route, TableId
from htapkit.plan import LocalQuery, Refuse, Relay, SessionView, plan
from tests.unit.htapkit.plan.catalogs import SHOP, catalog, status

SESSION = SessionView("shop")
_TPCH = Path(__file__).parents[4] / "sql" / "bench" / "tpch"


def _local(sql: str, session: SessionView = SESSION, types: tuple[int, ...] = ()) -> LocalQuery:
    made = plan(sql, SHOP, session, types)
    assert isinstance(made, LocalQuery), made
    return made


def _reason(sql: str, session: SessionView = SESSION) -> str:
    made = plan(sql, SHOP, session)
    assert isinstance(made, Relay), made
    return made.considered[0].reason


def test_access_holds_every_column_that_is_read() -> None:
    """Also those of WHERE, JOIN and ORDER BY; `count(*)` reads a table without naming a column."""
    made = _local(
        "SELECT o.total FROM orders o JOIN lines l ON l.id = o.id WHERE o.note = 'x' "
        "ORDER BY l.price"
    )
    assert made.access == (
        Access(TableId("shop", "public", "lines"), frozenset({"id", "price"})),
        Access(TableId("shop", "public", "orders"), frozenset({"id", "note", "total"})),
    )
    assert _local("SELECT count(*) FROM orders").access[0].columns == frozenset()


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT id FROM orders, lines WHERE orders.id = 1", "ambiguous"),
        ("SELECT orders FROM orders", "not found"),
        ("SELECT ctid FROM orders", "not found"),
        ("SELECT * FROM busy", "copying"),
        ("SELECT * FROM missing", "not mirrored"),
        ("SELECT * FROM ONLY orders", "only"),
        ("SELECT id FROM orders WHERE placed = '1 Jan 2020'", "literal"),
        ("SELECT id FROM orders WHERE placed = '2020-02-30'", "literal"),
        ("SELECT id FROM orders WHERE j = '{}'", "text"),
        ("SELECT id FROM orders WHERE note ~ 'a'", "regexplike"),
        ("SELECT id FROM orders WHERE id = 5 = true", "parentheses"),
        ("SELECT random() FROM orders", "random"),
        ("SELECT sum(f) FROM orders HAVING sum(f) > 1", "last digits"),
        ("WITH RECURSIVE t AS (SELECT 1) SELECT * FROM t, orders", "RECURSIVE"),
    ],
)
def test_refusal_names_the_construct(sql: str, why: str) -> None:
    """The first candidate says why it is not taken."""
    assert why in _reason(sql)


def test_search_path_is_trusted_only_in_its_first_schema() -> None:
    """A schema before it may hold a table that is not mirrored, and so may a temporary one."""
    assert "pg_temp_3" in _reason(
        "SELECT count(*) FROM orders", SessionView("shop", ("pg_temp_3", "public"))
    )
    session = SessionView("shop", ("app", "public"))
    assert "app.orders" in _reason("SELECT count(*) FROM orders", session)
    assert _local("SELECT count(*) FROM public.orders", session)
    assert _local("SELECT count(*) FROM shop.public.orders", session)


def test_point_lookup_goes_to_the_source() -> None:
    """The whole key by equality; a part of the key does not count."""
    for sql in (
        "SELECT * FROM orders WHERE id = 7",
        "SELECT note FROM orders WHERE id = $1 AND total > 3",
        "SELECT * FROM lines WHERE id = 1 AND line = 2",
        "SELECT 1",
    ):
        made = plan(sql, SHOP, SESSION, (20,))
        assert isinstance(made, Relay), sql
        assert [c.route for c in made.considered if c.chosen] == [Route.SOURCE]
        assert isinstance(plan(sql, SHOP, SessionView("shop", route="hot"), (20,)), LocalQuery)
    assert _local("SELECT * FROM lines WHERE id = 1")
    assert _local("SELECT * FROM orders WHERE id > 7")


def test_forced_routes() -> None:
    """Hot refuses by name, source relays, lake and union need a table with a part in the lake."""
    hot = SessionView("shop", route="hot")
    refused = plan("SELECT id FROM orders WHERE note ~ 'a'", SHOP, hot)
    assert isinstance(refused, Refuse)
    assert refused.sqlstate == "0A000"
    assert isinstance(plan("SELECT * FROM pg_class", SHOP, hot), Relay)
    assert isinstance(plan("INSERT INTO orders VALUES (1)", SHOP, hot), Relay)
    assert isinstance(
        plan("SELECT count(*) FROM orders", SHOP, SessionView("shop", route="source")), Relay
    )
    for name in ("lake", "union"):
        made = plan("SELECT count(*) FROM orders", SHOP, SessionView("shop", route=name))
        assert isinstance(made, Refuse)
        assert made.sqlstate == "0A000"
        assert "no" in made.message
        assert "part in the lake" in made.message


def test_other_sources_are_read_together() -> None:
    """A three-part name reads another source's table, and says which sources were read."""
    made = _local("SELECT e.name, o.total FROM other.public.events e JOIN orders o ON o.id = e.id")
    assert made.sources == ("other", "shop")


def test_parameters() -> None:
    """Each client parameter is bound once, with its type; one without a type is refused."""
    made = _local(
        "SELECT count(*) FROM orders WHERE id > $2 OR customer = $1 OR id < $2", types=(23, 20)
    )
    assert [(p.number, p.type.name) for p in made.parameters] == [(2, "int8"), (1, "int4")]
    assert "CAST($1 AS BIGINT)" in made.sql
    assert "a parameter" in _reason("SELECT count(*) FROM orders WHERE id > $1")


def test_parameters_never_stand_in_finish() -> None:
    """They travel as columns of the local result."""
    made = _local("SELECT to_char(total, 'FM999'), total / $1::int4 FROM orders", types=(23,))
    assert made.finish is not None
    assert len(made.columns) == 2
    assert "$3" not in made.finish.sql
    assert "/ l.c2" in made.finish.sql


def test_time_zone_decides_about_timestamptz() -> None:
    """Local time is only computed where it is UTC."""
    zoned = catalog(status("z", "id int8, at timestamptz"))
    sql = "SELECT date_trunc('day', at), count(*) FROM z GROUP BY 1"
    assert isinstance(plan(sql, zoned, SESSION), LocalQuery)
    assert isinstance(plan(sql, zoned, SessionView("shop", time_zone="Europe/Berlin")), Relay)


def test_names_differing_in_case_are_refused() -> None:
    """DuckDB would take them for one."""
    odd = catalog(status("odd", "id int8, Id int8"))
    assert isinstance(plan("SELECT * FROM odd", odd, SESSION), Relay)


def test_text_order_needs_a_binary_collation() -> None:
    """Where it decides about rows it is refused; where it only sorts, the source does."""
    german = catalog(status("t", "id int8, name text", binary_order=False))
    assert isinstance(plan("SELECT max(name) FROM t", german, SESSION), Relay)
    made = plan("SELECT id, name FROM t ORDER BY name LIMIT 3", german, SESSION)
    assert isinstance(made, LocalQuery)
    assert made.ranking is not None
    assert made.completed
    assert made.ranking.limit == 3
    assert "LIMIT" not in made.sql
    (key,) = made.ranking.keys
    assert (key.column, key.descending, key.nulls_first) == (1, False, False)
    assert '(SELECT "name" FROM "public"."t" LIMIT 0)' in key.ranks


def test_what_only_the_source_sorts_is_finished_there() -> None:
    """Where Arrow may sort values otherwise, or a limit is a parameter, ranks are not enough."""
    german = catalog(status("t", "id int8, name text, f float8", binary_order=False))
    made = plan("SELECT id, name FROM t ORDER BY f, name LIMIT 3", german, SESSION)
    assert isinstance(made, LocalQuery)
    assert made.ranking is None
    assert made.finish is not None
    assert "LIMIT 3" in made.finish.sql
    assert isinstance(plan("SELECT id FROM t ORDER BY name LIMIT $1", german, SESSION, [20]), Relay)


@pytest.mark.parametrize(
    ("source", "route"), [("shop", LocalQuery), ("other", Refuse)], ids=["parsed", "unseen"]
)
def test_a_label_is_known_where_postgresql_has_parsed_it(source: str, route: type) -> None:
    """What no PostgreSQL parses may have a label that there is not, which would be an error."""
    moods = catalog(status("t", "id int8, feeling enum:mood", source=source))
    assert isinstance(plan(f"SELECT id FROM {source}.public.t", moods, SESSION), LocalQuery)
    sql = f"SELECT id FROM {source}.public.t WHERE feeling IN ('ok', 'sad')"
    assert isinstance(plan(sql, moods, SESSION), route)


@pytest.mark.parametrize(
    "sql", ["EXPLAIN (ROUTE, ANALYZE) SELECT 1", "explain (costs off, route) select 1"]
)
def test_what_postgresql_must_not_see_is_an_error_of_ours(sql: str) -> None:
    """It does not know the option."""
    made = plan(sql, SHOP, SESSION)
    assert isinstance(made, Refuse)
    assert "EXPLAIN (ROUTE)" in made.message


def test_an_enum_is_sorted_by_its_labels_places() -> None:
    """Which the source has. Greater and less are the source's."""
    moods = catalog(status("t", "id int8, feeling enum:mood"))
    made = plan("SELECT id FROM t ORDER BY feeling DESC", moods, SESSION)
    assert isinstance(made, LocalQuery)
    assert made.ranking is not None
    (key,) = made.ranking.keys
    assert "enum_range" in key.ranks
    assert '(SELECT "feeling" FROM "public"."t" LIMIT 0)' in key.ranks
    assert (key.column, len(made.columns)) == (1, 1)
    assert isinstance(plan("SELECT id FROM t WHERE feeling > 'ok'", moods, SESSION), Relay)


@pytest.mark.parametrize("number", range(1, 23))
def test_tpch_is_answered_hot(number: int) -> None:
    """All 22."""
    tables = []
    for block in (_TPCH / "schema.sql").read_text().split("CREATE TABLE ")[1:]:
        name, _, body = block.partition(" (\n")
        columns, key = [], "none"
        for line in body.split("\n);")[0].split(",\n"):
            words = line.split()
            if words[:2] == ["PRIMARY", "KEY"]:
                key = line.partition("(")[2].rstrip(")").replace(",", "")
                continue
            if "PRIMARY" in words:
                key = words[0]
            type_ = (
                " ".join(words[1:]).partition(" NOT")[0].partition(" PRIMARY")[0].replace(", ", ",")
            )
            for long, short in (
                ("integer", "int4"),
                ("bigint", "int8"),
                ("char(", "bpchar("),
                ("varbpchar", "varchar"),
            ):
                type_ = type_.replace(long, short)
            columns.append(f"{words[0]} {type_}")
        tables.append(status(name, ", ".join(columns), key))
    made = plan((_TPCH / f"q{number:02}.sql").read_text(), catalog(*tables), SESSION)
    assert isinstance(made, LocalQuery), made
    assert (made.finish is not None) == (number in {1, 8, 14, 17})
