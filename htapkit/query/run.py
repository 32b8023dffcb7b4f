"""Runs a planned statement on the hot store, if the tables are what they were planned on.

Never plans, never waits for freshness, never finishes at the source.
"""

from __future__ import annotations

from collections.abc import Sequence

from htapkit.errors import CatalogChanged
from htapkit.hot import HotStore, Read
from htapkit.plan import LocalQuery

_ATTEMPTS = 3


def run(
    query: LocalQuery,
    store: HotStore,
    values: Sequence[object] = (),
    *,
    catalog_version: int | None = None,
) -> Read:
    """Start `query`; `values` are those of `query.parameters`, in their order.

    `catalog_version` is of the catalog that it was planned on. Without it, the tables must at
    least be readable, with the planned columns, in the read's own snapshot. Raises CatalogChanged
    (plan again), QueryFailed, LimitReached, StoreFailed.
    """
    if catalog_version is not None:
        return store.read(query.sql, values, sources=query.sources, catalog_version=catalog_version)
    for attempt in range(_ATTEMPTS):
        version = _still_readable(query, store)
        try:
            return store.read(query.sql, values, sources=query.sources, catalog_version=version)
        except CatalogChanged:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def _still_readable(query: LocalQuery, store: HotStore) -> int:
    """The catalog's version, in which all that `query` reads can be read."""
    catalog = store.catalog
    for access in query.access:
        schema = catalog.readable(access.table)
        if schema is None or any(schema.column(name) is None for name in access.columns):
            raise CatalogChanged(f"{access.table} is not what the statement was planned on")
    return catalog.version
