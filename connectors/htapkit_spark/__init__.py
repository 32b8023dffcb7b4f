"""htapkit as a source of Spark: `spark.read.format("htapkit")`.

`HtapkitDataSource` is imported when it is asked for, because it needs pyspark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from htapkit_spark.source import HtapkitDataSource

__all__ = ["HtapkitDataSource"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any attribute of a module
    """The data source, from the module that needs pyspark."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from htapkit_spark.source import HtapkitDataSource  # noqa: PLC0415 - only where it is wanted

    return HtapkitDataSource
