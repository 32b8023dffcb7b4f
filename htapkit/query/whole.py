"""All rows of one table, wherever they lie, in one snapshot."""

from __future__ import annotations

from htapkit.errors import CatalogChanged
from htapkit.hot import HotStore, Read, table_query
from htapkit.model import TableId
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
    boundary = catalog.tables[table].boundary
    if boundary is None:
        return store.read(table_query(schema), catalog_version=catalog.version)
    arm = present_arm(_ARM, catalog.tables[table], files, None, None)
    # The view has the table's columns in their order.
    sql = f'{table_query(schema)} UNION ALL FROM "{_ARM}"'
    return store.read(sql, catalog_version=catalog.version, lake=(arm,))
