"""Statements that a source without SQL answers itself: its rows, and the local SQL over them.

What the source gives is held whole before the SQL runs, so its size has a limit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import pyarrow as pa

from htapkit.errors import (
    CatalogChanged,
    LimitReached,
    LookupFailed,
    LookupRefused,
    QueryCancelled,
    SourceError,
    SourceRefused,
    UnfaithfulValue,
)
from htapkit.hot import HotStore, Read
from htapkit.lookups import LooksUp, settled
from htapkit.model import Route
from htapkit.plan import LOOKED_UP, Considered, ExplainRoute, LocalQuery, Plan, Refuse

ROWS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Lookups:
    """The sources that answer lookups, by name."""

    by_source: Mapping[str, LooksUp]
    bytes_max: int  # of the rows that one statement may have
    seconds_max: float  # of one statement

    def planned(self, plan: Plan) -> Plan:
        """The plan, where a lookup of it has the source's word. An explained one tells it."""
        if isinstance(plan, ExplainRoute) and isinstance(plan.plan, LocalQuery):
            return ExplainRoute(self._explained(plan.plan))
        if isinstance(plan, LocalQuery) and plan.there is not None:
            _, refused = self._word(plan.there)
            return replace(plan, there=None) if refused else plan
        return plan

    def _word(self, query: LocalQuery) -> tuple[str, bool]:
        """(the question in the source's language, or why there is none; whether that is so)."""
        assert query.lookup is not None
        source = query.lookup.table.source
        try:
            asked = self.by_source[source].explain(query.lookup)
        except LookupRefused as why:
            return str(why), True
        return f"asked of {source} itself: {asked}", False

    def _explained(self, query: LocalQuery) -> LocalQuery | Refuse:
        if query.lookup is not None:
            reason, refused = self._word(query)
            considered = _told(query, reason, chosen=not refused)
            if not refused:
                return replace(query, considered=considered)
            return Refuse(LookupRefused.sqlstate, _both(query, reason), considered)
        if query.there is None:
            return query
        reason, refused = self._word(query.there)
        there = None if refused else query.there
        return replace(query, there=there, considered=_told(query, reason, chosen=False))

    def run(
        self, query: LocalQuery, store: HotStore, values: Sequence[object], version: int
    ) -> Read:
        """Start `query`, which was planned for it on this version of the catalog.

        Raises CatalogChanged (plan again), LookupRefused (which key is missing), LookupFailed,
        LimitReached, QueryFailed, StoreFailed.
        """
        assert query.lookup is not None
        if store.catalog.version != version:
            raise CatalogChanged(f"the catalog moved on from version {version}")
        try:
            rows = self._rows(query, values)
        except (LookupRefused, SourceRefused, UnfaithfulValue) as why:
            raise LookupRefused(_both(query, str(why))) from why
        except SourceError as why:
            raise LookupFailed(_both(query, str(why))) from why
        read = store.read(query.sql, values, given={LOOKED_UP: rows})
        read.positions, read.committed_at = {}, {}  # it is no copy's
        return read

    def _rows(self, query: LocalQuery, values: Sequence[object]) -> pa.Table:
        assert query.lookup is not None
        asked = settled(query.lookup, values)
        source = self.by_source[asked.table.source]
        until = time.monotonic() + self.seconds_max
        batches, rows, size = [], 0, 0
        with closing(source.look_up(asked)) as found:
            for batch in found:
                batches.append(batch)
                rows, size = rows + batch.num_rows, size + batch.nbytes
                if rows > ROWS_MAX or size > self.bytes_max:
                    raise LimitReached(
                        f"{asked.table}: more than {ROWS_MAX} rows or {self.bytes_max} bytes "
                        "(limits.batch_bytes); ask for a narrower range of its key"
                    )
                if time.monotonic() > until:
                    raise QueryCancelled(
                        f"limits.statement_time: it ran longer than {self.seconds_max:g} s"
                    )
        return pa.Table.from_batches(batches)


def _told(query: LocalQuery, reason: str, *, chosen: bool) -> tuple[Considered, ...]:
    return tuple(
        replace(each, reason=reason, chosen=chosen) if each.route is Route.SOURCE else each
        for each in query.considered
    )


def _both(query: LocalQuery, why: str) -> str:
    """Why neither the copy nor the source answers."""
    here = next((each.reason for each in query.considered if each.route is Route.HOT), "")
    return f"{here}; and {why}" if here else why
