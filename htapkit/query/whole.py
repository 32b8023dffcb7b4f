"""All rows of one table, wherever they lie, in no order."""

from __future__ import annotations

from htapkit.errors import CatalogChanged
from htapkit.hot import Asked, table_query
from htapkit.model import IMPORTED, Catalog, TableId
from htapkit.query.arms import Files, present_arm

_ARM = "htapkit lake"


def whole_rows(files: Files, catalog: Catalog, table: TableId) -> Asked:
    """The statement of it on that catalog, for a `HotStore.moment`; in the table's Arrow schema.

    Raises CatalogChanged, LakeFailed.
    """
    schema = catalog.readable(table)
    if schema is None:
        raise CatalogChanged(f"{table} is not followed now")
    status = catalog.status(table)
    assert status is not None
    if status.boundary is None:
        return Asked(table_query(schema))
    arm = present_arm(_ARM, status, files, None, None)
    if table.source in IMPORTED:
        return Asked(f'FROM "{_ARM}"', lake=(arm,))
    # The view has the table's columns in their order.
    sql = f'{table_query(schema)} UNION ALL FROM "{_ARM}"'
    return Asked(sql, lake=(arm,))
