"""What a statement reads of the lake: its scans, as the files that are pinned now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from htapkit.errors import CatalogChanged, NotRoutable
from htapkit.hot import LakeArm
from htapkit.model import IMPORTED, Catalog, LakeFiles, Pin, TableId, TableStatus
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
    status = catalog.status(scan.table)
    if status is None or (status.boundary is None and scan.pin is None):
        raise CatalogChanged(f"{scan.table} has no part in the lake any more")
    if files is None:
        raise NotRoutable(f"{scan.table} has rows in the lake, and no lake is configured here")
    if scan.pin is not None:
        span = settled(scan, query.parameters, values)
        # It may have been cut by another column than the horizon is about.
        found = replace(files(scan.table, scan.pin, *span), first=None)
        return LakeArm(scan.name, status.schema, found, patched=False, horizon=status.horizon)
    assert status.boundary is not None
    pin, below = status.boundary.pin, status.boundary.below
    lower, upper = settled(scan, query.parameters, values)
    end = below if upper is None else min(upper, below)
    if lower is not None and lower >= end:
        return LakeArm(scan.name, status.schema, LakeFiles(pin, {}, (), 0), patched=False)
    # Every row lies below the boundary: to say so again would only make more kinds of requests.
    return present_arm(scan.name, status, files, lower, end if end < below else None)


def present_arm(
    name: str, status: TableStatus, files: Files, lower: int | None, upper: int | None
) -> LakeArm:
    """The arm of a table that has a boundary, for times in [lower, upper) above its horizon."""
    boundary, horizon = status.boundary, status.horizon
    assert boundary is not None
    same = horizon is not None and horizon.column == boundary.column
    if same and horizon is not None and (lower is None or lower < horizon.since):
        lower = horizon.since
    found = files(status.schema.table, boundary.pin, lower, upper)
    if not same:
        found = replace(found, first=None)
    patched = status.schema.table.source not in IMPORTED
    return LakeArm(name, status.schema, found, patched=patched, horizon=horizon)
