"""All rows of one table, wherever they lie, in one snapshot."""

from __future__ import annotations

from htapkit.errors import CatalogChanged
from htapkit.hot import HotStore, Read, table_query
from htapkit.model import IMPORTED, TableId
from htapkit.query.arms import Files, present_arm

_ARM = "htapkit lake"


def read_whole(store: HotStore, files: Files, table: TableId) -> Read:
    """Start reading a table that follows, in its Arrow schema and no order.

    Raises CatalogChanged, LakeFailed, LimitReached, StoreFailed.
    """
    catalog = store.catalog
    schema = catalog.readable(table)
    if schema is None:
        raise CatalogChanged(f"{table} is not followed now")
    status = catalog.status(table)
    assert status is not None
    if status.boundary is None:
        return store.read(table_query(schema), catalog_version=catalog.version)
    arm = present_arm(_ARM, status, files, None, None)
    if table.source in IMPORTED:
        return store.read(f'FROM "{_ARM}"', catalog_version=catalog.version, lake=(arm,))
    # The view has the table's columns in their order.
    sql = f'{table_query(schema)} UNION ALL FROM "{_ARM}"'
    return store.read(sql, catalog_version=catalog.version, lake=(arm,))
