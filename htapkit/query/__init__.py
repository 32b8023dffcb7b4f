"""Running planned statements: on hot store and lake, by a Spark, or over what a source looks up."""

from __future__ import annotations

from htapkit.query.lookups import Lookups
from htapkit.query.run import run, run_in_parts
from htapkit.query.scan import ScanLimit, beyond_values, too_large
from htapkit.query.spark import Spark, SparkRead, run_on_spark
from htapkit.query.whole import whole_rows
from htapkit.query.zones import zone_digest

__all__ = [
    "Lookups",
    "ScanLimit",
    "Spark",
    "SparkRead",
    "beyond_values",
    "run",
    "run_in_parts",
    "run_on_spark",
    "too_large",
    "whole_rows",
    "zone_digest",
]
