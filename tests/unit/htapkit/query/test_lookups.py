"""Lookups: the local SQL over what a source gives, its refusals, and the limit of its rows."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from htapkit.errors import (
    CatalogChanged,
    LimitReached,
    LookupFailed,
    LookupRefused,
    SourceUnavailable,
)
from htapkit.hot import HotLimits, HotStore
from htapkit.lookups import Condition, Lookup
from htapkit.model import Route, TableState
from htapkit.plan import ExplainRoute, LocalQuery, Plan, Refuse, SessionView, plan
from htapkit.query import Lookups
from tests.unit.htapkit.plan.catalogs import catalog, status

_SCHEMA = pa.schema([("id", pa.int32()), ("kind", pa.string())])


@dataclass
class Answering:
    """A source that gives these rows to whoever fixes the id."""

    rows: list[tuple[int, str]]
    problem: Exception | None = None
    asked: list[Lookup] = field(default_factory=list)

    def explain(self, asked: Lookup) -> str:
        """By its conditions."""
        if not any(each.column == "id" for each in asked.conditions):
            raise LookupRefused("id is missing")
        return f"{len(asked.conditions)} conditions"

    def look_up(self, asked: Lookup) -> Generator[pa.RecordBatch]:
        """In batches of two."""
        self.explain(asked)
        self.asked.append(asked)
        yield pa.RecordBatch.from_pylist([], schema=_SCHEMA)
        if self.problem is not None:
            raise self.problem
        for at in range(0, len(self.rows), 2):
            columns = zip(*self.rows[at : at + 2], strict=True)
            arrays = [
                pa.array(values, each.type) for values, each in zip(columns, _SCHEMA, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    """Without any table."""
    with HotStore(tmp_path / "hot.duckdb", HotLimits()) as made:
        yield made


def _plan(sql: str, route: str, types: tuple[int, ...] = ()) -> Plan:
    columns = "id int4, kind text"
    tables = catalog(
        status("items", columns, source="events"),
        status("copied", columns, source="events", state=TableState.COPYING),
    )
    session = SessionView("events", alone=True, lookups=("events",), route=route)
    return plan(sql, tables, session, types)


def _query(sql: str, types: tuple[int, ...] = ()) -> LocalQuery:
    made = _plan(sql, "source", types)
    assert isinstance(made, LocalQuery)
    return made


def _found(store: HotStore, source: Answering, sql: str, *values: object) -> list[object]:
    query = _query(sql, (25, 23)[: len(values)])
    lookups = Lookups({"events": source}, 1 << 20, 60.0)
    with lookups.run(query, store, values, store.catalog.version) as read:
        assert not read.positions
        return [tuple(row.values()) for batch in read.batches() for row in batch.to_pylist()]


def test_all_conditions_are_the_local_sqls(store: HotStore) -> None:
    """Whatever the source makes of them."""
    source = Answering([(1, "a"), (1, "b"), (2, "a"), (1, "a"), (1, "bb")])
    sql = "SELECT kind, count(*) FROM public.items WHERE id = 1 AND kind LIKE 'b%' GROUP BY 1"
    assert sorted(_found(store, source, sql), key=str) == [("b", 1), ("bb", 1)]
    sql = "SELECT id FROM public.items WHERE kind = $1 AND id = $2"
    assert _found(store, source, sql, "a", 2) == [(2,)]
    assert source.asked[-1].conditions == (
        Condition("kind", "=", ("a",)),
        Condition("id", "=", (2,)),
    )


def test_refusals_and_failures(store: HotStore) -> None:
    """With the source's words; those of the copy stand before."""
    version = store.catalog.version
    lookups = Lookups({"events": Answering([])}, 1 << 20, 60.0)
    with pytest.raises(LookupRefused, match=r"\Aid is missing"):
        lookups.run(_query("SELECT kind FROM public.items"), store, (), version)
    copied = _plan("SELECT kind FROM public.copied", "auto")
    assert isinstance(copied, LocalQuery)
    with pytest.raises(LookupRefused, match=r"copying; and id is missing"):
        lookups.run(copied, store, (), version)
    query = _query("SELECT kind FROM public.items WHERE id = 1")
    with pytest.raises(CatalogChanged):
        lookups.run(query, store, (), version + 1)
    away = Lookups({"events": Answering([], SourceUnavailable("gone"))}, 1 << 20, 60.0)
    with pytest.raises(LookupFailed, match="gone"):
        away.run(query, store, (), version)


def test_what_is_held_is_bounded(store: HotStore) -> None:
    """By its bytes: the limit is named."""
    many = Answering([(1, "x" * 1000)] * 100)
    lookups = Lookups({"events": many}, 10_000, 60.0)
    query = _query("SELECT kind FROM public.items WHERE id = 1")
    with pytest.raises(LimitReached, match=r"limits\.batch_bytes"):
        lookups.run(query, store, (), store.catalog.version)


def test_what_is_told_of_it() -> None:
    """The source's question beside the copy's plan, or why it has none."""
    lookups = Lookups({"events": Answering([])}, 1 << 20, 60.0)

    def reason(sql: str, route: str) -> tuple[bool, str]:
        told = lookups.planned(_plan(f"EXPLAIN (ROUTE) {sql}", route))
        assert isinstance(told, ExplainRoute)
        assert isinstance(told.plan, LocalQuery | Refuse)
        (found,) = (each for each in told.plan.considered if each.route is Route.SOURCE)
        return found.chosen, found.reason

    keyed, whole = "SELECT kind FROM public.items WHERE id = 1", "SELECT kind FROM public.items"
    assert reason(keyed, "source") == (True, "asked of events itself: 1 conditions")
    assert reason(keyed, "auto") == (False, "asked of events itself: 1 conditions")
    assert reason(whole, "source") == (False, "id is missing")
    assert reason(whole, "auto") == (False, "id is missing")
    kept = [lookups.planned(_plan(sql, "auto")) for sql in (keyed, whole)]
    assert [isinstance(each, LocalQuery) and each.there is not None for each in kept] == [
        True,
        False,
    ]
