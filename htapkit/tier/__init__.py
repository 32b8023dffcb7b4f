"""Moving closed time ranges from the hot store to the lake: see README.md."""

from htapkit.tier.erasure import Erased, Erasure
from htapkit.tier.history import Brought, History, told
from htapkit.tier.imports import Imports, describe
from htapkit.tier.parquet import files_of
from htapkit.tier.retention import Dropped, Retention
from htapkit.tier.rules import Rule, after, floor, microseconds, rule_of
from htapkit.tier.service import Parts, TierService
from htapkit.tier.tierer import Lake, Moved, Target, Tierer
from htapkit.tier.upkeep import Upkeep

__all__ = [
    "Brought",
    "Dropped",
    "Erased",
    "Erasure",
    "History",
    "Imports",
    "Lake",
    "Moved",
    "Parts",
    "Retention",
    "Rule",
    "Target",
    "TierService",
    "Tierer",
    "Upkeep",
    "after",
    "describe",
    "files_of",
    "floor",
    "microseconds",
    "rule_of",
    "told",
]
