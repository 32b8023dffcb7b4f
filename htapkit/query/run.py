"""Runs a planned statement on the hot store and the lake, if the tables are what it was planned on.

Never plans, never waits for freshness, never finishes at the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa

from htapkit.errors import CatalogChanged, NotRoutable
from htapkit.hot import HotPart, HotStore, Lease, Parted, Read
from htapkit.model import Catalog, view_relation
from htapkit.plan import LocalQuery, settled
from htapkit.query.arms import Files, lake_arms

_ATTEMPTS = 3


def run(
    query: LocalQuery,
    store: HotStore,
    values: Sequence[object] = (),
    *,
    catalog_version: int | None = None,
    files: Files | None = None,
    rows: Mapping[str, pa.Table] = MappingProxyType({}),
) -> Read:
    """Start `query`; `values` are those of `query.parameters`, in their order.

    `catalog_version` is of the catalog that it was planned on. Without it, the tables must at
    least be readable, with the planned columns and boundaries, in the read's own snapshot. `files`
    says what to read of the lake: rows of both and the boundary between them are of one snapshot.
    `rows` are of `query.views`.
    Raises CatalogChanged (plan again), NotRoutable (a scan of the lake, and no `files`; rows below
    a horizon), LakeFailed, QueryFailed, LimitReached, StoreFailed.
    """
    for attempt in range(_ATTEMPTS):
        catalog = store.catalog
        if catalog_version is None:
            _still_readable(query, catalog)
        elif catalog.version != catalog_version:
            raise CatalogChanged(f"the catalog moved on from version {catalog_version}")
        check_horizons(query, values, catalog)
        arms = lake_arms(query, values, catalog, files)
        try:
            return store.read(
                query.sql,
                values,
                sources=query.sources,
                catalog_version=catalog.version,
                lake=arms,
                given={view_relation(name): table for name, table in rows.items()},
            )
        except CatalogChanged:
            if catalog_version is not None or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def check_horizons(query: LocalQuery, values: Sequence[object], catalog: Catalog) -> None:
    """Raise NotRoutable where the values ask for rows that the copy no longer keeps."""
    for floor in query.floors:
        status = catalog.tables.get(floor.table)
        if status is None or status.horizon is None:
            continue
        lower, _ = settled(floor, query.parameters, values)
        if lower is None or lower < status.horizon.since:
            since = status.horizon.moment.isoformat(sep=" ")
            raise NotRoutable(
                f"{floor.table}: rows before {since} are asked for, which the copy no longer keeps"
            )


def run_in_parts(
    query: LocalQuery,
    store: HotStore,
    values: Sequence[object],
    *,
    catalog_version: int,
    files: Files,
    parts_max: int,
) -> Lease | None:
    """Begin reads of the parts of `query` (which was planned for it), all of one moment.

    None: there is only one part, or room for one; run it whole. Raises as `run`.
    """
    catalog = store.catalog
    if catalog.version != catalog_version:
        raise CatalogChanged(f"the catalog moved on from version {catalog_version}")
    if query.parts is None:
        return None
    check_horizons(query, values, catalog)
    schema = catalog.tables[query.parts.table].schema
    parted = Parted(
        query.sql,
        values,
        query.sources,
        catalog_version,
        HotPart(query.parts.name, schema),
        lake_arms(query, values, catalog, files),
    )
    return store.lease(parted, parts_max)


def _still_readable(query: LocalQuery, catalog: Catalog) -> None:
    """Raise CatalogChanged unless all that `query` reads can be read, where it looks for it."""
    planned = dict(query.cuts)
    for access in query.access:
        schema = catalog.readable(access.table)
        if schema is None or any(schema.column(name) is None for name in access.columns):
            raise CatalogChanged(f"{access.table} is not what the statement was planned on")
        if query.as_of is not None:
            continue  # versions of the past stay what they are
        status = catalog.status(access.table)
        boundary = status.boundary if status is not None else None
        if planned.get(access.table) != (boundary.below if boundary else None):
            raise CatalogChanged(f"the boundary of {access.table} has moved")
