"""What a statement reads of the lake: its scans, as the files that are pinned now."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from htapkit.errors import CatalogChanged, NotRoutable
from htapkit.hot import LakeArm
from htapkit.model import Catalog, LakeFiles, Pin, TableId
from htapkit.plan import LakeScan, LocalQuery, settled

Files = Callable[[TableId, Pin, int | None, int | None], LakeFiles]
"""The files of a table's pinned version with rows in [lower, upper), as Lake.files gives them."""


def lake_arms(
    query: LocalQuery, values: Sequence[object], catalog: Catalog, files: Files | None
) -> tuple[LakeArm, ...]:
    """One arm for each scan. Raises CatalogChanged, NotRoutable, LakeFailed."""
    return tuple(_arm(scan, query, values, catalog, files) for scan in query.scans)


def _arm(
    scan: LakeScan,
    query: LocalQuery,
    values: Sequence[object],
    catalog: Catalog,
    files: Files | None,
) -> LakeArm:
    status = catalog.tables.get(scan.table)
    if status is None or (status.boundary is None and scan.pin is None):
        raise CatalogChanged(f"{scan.table} has no part in the lake any more")
    if files is None:
        raise NotRoutable(f"{scan.table} has rows in the lake, and no lake is configured here")
    if scan.pin is not None:
        span = settled(scan, query.parameters, values)
        found = files(scan.table, scan.pin, *span)
        return LakeArm(scan.name, status.schema, found, patched=False)
    assert status.boundary is not None
    pin, below = status.boundary.pin, status.boundary.below
    lower, upper = settled(scan, query.parameters, values)
    end = below if upper is None else min(upper, below)
    if lower is not None and lower >= end:
        return LakeArm(scan.name, status.schema, LakeFiles(pin, {}, (), 0))
    # Every row lies below the boundary: to say so again would only make more kinds of requests.
    return LakeArm(
        scan.name, status.schema, files(scan.table, pin, lower, end if end < below else None)
    )
