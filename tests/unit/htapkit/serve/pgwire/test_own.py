"""What is told of a plan: EXPLAIN (ROUTE), and what the source may see of it."""

from __future__ import annotations

from dataclasses import replace

from htapkit.model import Position
from htapkit.plan import ExplainRoute, LocalQuery, Plan, SessionView, plan
from htapkit.serve.pgwire import own
from htapkit.serve.pgwire.messages import read_row
from htapkit.serve.pgwire.settings import Options
from htapkit.serve.pgwire.state import SessionState
from tests.unit.htapkit.plan.catalogs import TIERED

UNION = "SELECT count(*) FROM visits WHERE at >= '2024-05-01' AND at < '2024-07-01'"


def _plan(sql: str, route: str = "auto") -> Plan:
    return plan(sql, TIERED, SessionView("shop", route=route))


def _explained(sql: str, route: str = "auto") -> list[dict[str, str | None]]:
    made = _plan(f"EXPLAIN (ROUTE) {sql}", route)
    assert isinstance(made, ExplainRoute)
    names = [field.name.decode() for field in own.fields(made)]
    rows = own.run(made, SessionState("shop", Options()), lambda: 0.25, in_block=False).rows
    return [dict(zip(names, read_row(row[5:]), strict=True)) for row in rows]


def test_explain_shows_both_arms_with_their_bounds() -> None:
    """The chosen candidate has the SQL, and why the lake is read."""
    chosen, hot, source = _explained(UNION)
    assert (chosen["route"], chosen["chosen"], chosen["cost"]) == ("union", "true", "6000")
    assert chosen["lag"] == "250 ms"
    assert chosen["sql"] is not None
    assert 'FROM "shop.public"."visits" UNION ALL SELECT' in chosen["sql"]
    assert chosen["reason"] is not None
    assert "[2024-05-01 00:00:00, 2024-07-01 00:00:00)" in chosen["reason"]
    assert "boundary is 2024-06-01 00:00:00" in chosen["reason"]
    assert (hot["route"], hot["chosen"], hot["sql"]) == ("hot", "false", None)
    assert (source["route"], source["chosen"], source["lag"]) == ("source", "false", None)


def test_explain_of_a_forced_route_that_cannot_be_taken() -> None:
    """The last row is the error that the statement would give."""
    *_, last = _explained(UNION, "hot")
    assert last["chosen"] == "false"
    assert last["reason"] is not None
    assert "htapkit.route is hot" in last["reason"]
    assert "shop.public.visits" in last["reason"]


def test_a_union_is_known_to_the_source_and_may_go_there() -> None:
    """The past may not, and words of our own must not even be shown to it."""
    made = _plan(UNION)
    assert isinstance(made, LocalQuery)
    assert not own.elsewhere(made, "shop")
    assert not own.unseen(made, "shop")
    past = replace(made, as_of=Position("0/1"))
    assert own.elsewhere(past, "shop")
    assert not own.unseen(past, "shop")
    assert own.unseen(replace(past, own_words=True), "shop")
    assert own.unseen(made, "other")


def test_the_source_is_given_the_parameters_of_what_it_may_not_see() -> None:
    """Otherwise it would refuse the client's Bind."""
    seen = plan("SELECT count(*) FROM visits WHERE took > $1", TIERED, SessionView("shop"), (23,))
    assert isinstance(seen, LocalQuery)
    assert own.shape(seen).endswith('AND $1::pg_catalog."int4" IS NOT NULL')
