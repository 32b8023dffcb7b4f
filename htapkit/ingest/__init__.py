"""The loop from a source to the hot store; see README.md."""

from __future__ import annotations

from htapkit.ingest.beside import Beside, imported
from htapkit.ingest.freshness import Freshness
from htapkit.ingest.mirror import Mirror, MirrorOptions
from htapkit.ingest.repair import Repaired, Span, present_rows, repair
from htapkit.ingest.status import SourceReport, SourceState, TableReport
from htapkit.ingest.verify import Verification, Verified, verify

__all__ = [
    "Beside",
    "Freshness",
    "Mirror",
    "MirrorOptions",
    "Repaired",
    "SourceReport",
    "SourceState",
    "Span",
    "TableReport",
    "Verification",
    "Verified",
    "imported",
    "present_rows",
    "repair",
    "verify",
]
