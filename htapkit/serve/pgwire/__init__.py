"""The PostgreSQL wire.

Local answers where the planner says so, all else byte for byte from the source.
"""

from __future__ import annotations

from htapkit.serve.pgwire.alone import Alone
from htapkit.serve.pgwire.database import Database, InParts, Lease, Opened, Planner, Read, Reader
from htapkit.serve.pgwire.recent import Recent
from htapkit.serve.pgwire.server import PgwireOptions, PgwireServer
from htapkit.serve.pgwire.settings import Fresh, Freshness, FreshnessWanted
from htapkit.serve.pgwire.tally import Tally
from htapkit.serve.pgwire.tls import Tls, load_tls

__all__ = [
    "Alone",
    "Database",
    "Fresh",
    "Freshness",
    "FreshnessWanted",
    "InParts",
    "Lease",
    "Opened",
    "PgwireOptions",
    "PgwireServer",
    "Planner",
    "Read",
    "Reader",
    "Recent",
    "Tally",
    "Tls",
    "load_tls",
]
