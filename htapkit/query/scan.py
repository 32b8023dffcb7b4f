"""How much of the lake one statement may read here, and who runs it where that is too little.

The size is that of the files that are left after pruning, in bytes as they are stored: each time
that a table stands in the statement counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from htapkit.errors import CatalogChanged, HtapkitError, ScanTooLarge
from htapkit.hot import HotStore
from htapkit.model import Route
from htapkit.plan import Considered, LocalQuery, Refuse
from htapkit.query.arms import Files, lake_arms
from htapkit.query.run import check_horizons


@dataclass(frozen=True, slots=True)
class ScanLimit:
    """`limits.scan`, and the files that it is about."""

    bytes_max: int
    files: Files

    def taken(
        self, query: LocalQuery, store: HotStore, values: Sequence[object], version: int
    ) -> LocalQuery:
        """What is to be run: the query, or the one for a Spark. `considered` says so.

        Raises ScanTooLarge, CatalogChanged (plan again), NotRoutable, LakeFailed.
        """
        if not query.scans or query.spark is not None:
            return query
        catalog = store.catalog
        if catalog.version != version:
            raise CatalogChanged(f"the catalog moved on from version {version}")
        check_horizons(query, values, catalog)
        size = sum(arm.files.bytes for arm in lake_arms(query, values, catalog, self.files))
        told = f"limits.scan: it reads {size} bytes of the lake, and may read {self.bytes_max} here"
        if size <= self.bytes_max:
            spark = Considered(Route.SPARK, chosen=False, reason=told)
            return replace(query, considered=(*query.considered, spark))
        if not isinstance(query.beyond, LocalQuery):
            raise too_large(told, _obstacle(query.beyond))
        here, *others = query.considered
        considered = (
            replace(here, route=Route.SPARK, reason=f"{here.reason}; {told}"),
            replace(here, chosen=False, reason=told),
            *others,
        )
        return replace(query.beyond, considered=considered)

    def explained(self, query: LocalQuery, store: HotStore) -> LocalQuery | Refuse:
        """What `taken` gives, or its refusal. Parameters have no values: they narrow nothing."""
        values = [None] * len(query.parameters)
        try:
            return self.taken(query, store, values, store.catalog.version)
        except ScanTooLarge as refusal:
            here, *others = query.considered
            no = (replace(each, chosen=False) for each in others)
            why = str(refusal)
            considered = (
                replace(here, chosen=False, reason=why),
                Considered(Route.SPARK, chosen=False, reason=_obstacle(query.beyond)),
                *no,
            )
            return Refuse(refusal.sqlstate, why, considered)
        except HtapkitError:
            return query  # it is told, or answered by the source, when it is run


def beyond_values(
    query: LocalQuery, taken: LocalQuery, values: Sequence[object]
) -> Sequence[object]:
    """The values of the parameters of `taken`, which was run in the place of `query`."""
    return [values[query.parameters.index(each)] for each in taken.parameters]


def too_large(told: str, why: str) -> ScanTooLarge:
    """The error: what, why there is no other way, what to do."""
    return ScanTooLarge(
        f"{told}; no Spark runs it instead: {why}. Ask for fewer days, or raise limits.scan"
    )


def _obstacle(beyond: LocalQuery | Refuse | None) -> str:
    """Why no Spark runs it."""
    if not isinstance(beyond, Refuse):
        return "none is configured (engines.spark)"
    return beyond.considered[0].reason if beyond.considered else beyond.message
