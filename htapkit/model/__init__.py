"""The nouns of htapkit as frozen values: what every package passes to the others.

No I/O and no third party but pyarrow. Types are PostgreSQL's, because PostgreSQL's SQL and wire are
what clients see; a connector for another database maps its types to them.
"""

from htapkit.model.catalog import (
    Access,
    Catalog,
    Finding,
    Route,
    Severity,
    Split,
    TableState,
    TableStatus,
)
from htapkit.model.changes import (
    Broken,
    Change,
    ChangeBatch,
    Op,
    RowChanges,
    SchemaChange,
    Truncate,
)
from htapkit.model.lake import (
    Boundary,
    Horizon,
    LakeColumn,
    LakeFiles,
    Layout,
    Pin,
    RunState,
    TieringRun,
)
from htapkit.model.tables import (
    DATE_INFINITY,
    DECIMAL_DIGITS_MAX,
    TIMESTAMP_INFINITY,
    Column,
    Position,
    SqlType,
    Storage,
    TableId,
    TableSchema,
    hot_relation,
    native_arrow,
)
from htapkit.model.views import OWN, VIEWS, view_relation

__all__ = [
    "DATE_INFINITY",
    "DECIMAL_DIGITS_MAX",
    "OWN",
    "TIMESTAMP_INFINITY",
    "VIEWS",
    "Access",
    "Boundary",
    "Broken",
    "Catalog",
    "Change",
    "ChangeBatch",
    "Column",
    "Finding",
    "Horizon",
    "LakeColumn",
    "LakeFiles",
    "Layout",
    "Op",
    "Pin",
    "Position",
    "Route",
    "RowChanges",
    "RunState",
    "SchemaChange",
    "Severity",
    "Split",
    "SqlType",
    "Storage",
    "TableId",
    "TableSchema",
    "TableState",
    "TableStatus",
    "TieringRun",
    "Truncate",
    "hot_relation",
    "native_arrow",
    "view_relation",
]
