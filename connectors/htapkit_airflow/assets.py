"""The names of what htapkit writes, for Airflow's schedules by assets."""

from __future__ import annotations

from urllib.parse import SplitResult, quote

from airflow.sdk import Asset, AssetAlias

LAKE = AssetAlias(name="htapkit_lake")
"""Stands for every table whose history in the lake changed: `schedule=LAKE` runs after each."""

_PLACE = "lake"


def lake_asset(table: str) -> Asset:
    """The history of `source.schema.table`, as `htapkit://lake/source.schema.table`.

    Or of an archive: `archive.source.schema.table`.
    """
    if not _is_table(table):
        raise ValueError(f"'{table}': expected source.schema.table")
    uri = f"htapkit://{_PLACE}/{quote(table)}"
    return Asset(name=uri, uri=uri)


def checked_uri(uri: SplitResult) -> SplitResult:
    """The same address. Raises ValueError where it names no table of the lake."""
    if uri.netloc != _PLACE or not _is_table(uri.path.removeprefix("/")):
        raise ValueError(f"'{uri.geturl()}': expected htapkit://lake/source.schema.table")
    return uri


def _is_table(name: str) -> bool:
    return name.removeprefix("archive.").count(".") == 2
