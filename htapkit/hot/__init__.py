"""The hot store: an exact columnar copy of the mirrored tables in one DuckDB file.

Promises and limits: README.md in this package. DuckDB is imported nowhere else but in `query`.
"""

from __future__ import annotations

from htapkit.hot.backup import Copied, move_pins
from htapkit.hot.difference import Difference
from htapkit.hot.digest import Digest
from htapkit.hot.export import DIGEST_MODULUS, Export
from htapkit.hot.histogram import histogram_query
from htapkit.hot.horizon import less_old
from htapkit.hot.incoming import Incoming
from htapkit.hot.journal import Entry, last_entry
from htapkit.hot.keys import Keys
from htapkit.hot.lakearms import LakeArm
from htapkit.hot.lakerows import LakeReader
from htapkit.hot.leases import Lease, Parted
from htapkit.hot.limits import HotLimits
from htapkit.hot.moment import Moment
from htapkit.hot.names import table_query
from htapkit.hot.parts import HotPart
from htapkit.hot.progress import Applied
from htapkit.hot.reads import Asked, Read
from htapkit.hot.runs import Cut
from htapkit.hot.sides import Sides
from htapkit.hot.store import HotStore
from htapkit.hot.unpatched import changed_query

__all__ = [
    "DIGEST_MODULUS",
    "Applied",
    "Asked",
    "Copied",
    "Cut",
    "Difference",
    "Digest",
    "Entry",
    "Export",
    "HotLimits",
    "HotPart",
    "HotStore",
    "Incoming",
    "Keys",
    "LakeArm",
    "LakeReader",
    "Lease",
    "Moment",
    "Parted",
    "Read",
    "Sides",
    "changed_query",
    "histogram_query",
    "last_entry",
    "less_old",
    "move_pins",
    "table_query",
]
