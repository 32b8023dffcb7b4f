"""The loop from a source to the hot store; see README.md."""

from __future__ import annotations

from htapkit.ingest.freshness import Freshness
from htapkit.ingest.mirror import Mirror, MirrorOptions
from htapkit.ingest.status import SourceReport, SourceState, TableReport
from htapkit.ingest.verify import Verification, Verified, verify

__all__ = [
    "Freshness",
    "Mirror",
    "MirrorOptions",
    "SourceReport",
    "SourceState",
    "TableReport",
    "Verification",
    "Verified",
    "verify",
]
