"""Spark joins the files of an archive in the lake, and expires its versions, as of a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from htapkit.model import SchemaChange
from htapkit.tier import Upkeep
from htapkit_spark.engine import SparkEngine
from tests.spark.conftest import settings
from tests.unit.htapkit.hot.building import Rows, batch_of, covers
from tests.unit.htapkit.hot.test_store import follow
from tests.unit.htapkit.tier.archives import ARCHIVE, DAY, PLAIN, Side

pytestmark = [pytest.mark.spark, pytest.mark.long]


@pytest.mark.usefixtures("spark_environment")
def test_spark_tidies_an_archive(tmp_path: Path) -> None:
    """Also after a column got another name and one was dropped: each row has its values."""
    side = Side(tmp_path)
    side.open()
    follow(side.store, PLAIN, [])
    key, number = PLAIN.columns[:2]
    now = PLAIN
    for count in range(1, 5):
        row = (count, 10 * count, f"v{count}") if now is PLAIN else (count, 10 * count)
        rows = Rows(now).insert(*row).delete(count)
        side.store.apply(batch_of(DAY + count, rows.changes()), covers)
        side.tier(2)
        if count == 2:
            now = replace(PLAIN, columns=(key, replace(number, name="b")))
            side.store.change_schema(SchemaChange(now, faithful=True))
    before = side.rows()
    assert [(row["id"], row["b"], row.get("s")) for row in before] == [
        (1, 10, "v1"),
        (2, 20, "v2"),
        (3, 30, None),
        (4, 40, None),
    ]
    engine = SparkEngine({"master": "local[1]", **settings(tmp_path, tmp_path / "engine")})
    upkeep = Upkeep(side.store, side.lake, 0.0, lambda _: engine)
    (kept,) = upkeep.compact_by("spark", [ARCHIVE], lambda *_: None)
    assert kept.compacted
    assert len(list(side.iceberg().inspect.files()["file_path"])) < 4
    assert side.rows() == before
    upkeep.expire_by("spark", [ARCHIVE], lambda *_: None)
    assert len(side.iceberg().metadata.snapshots) == 1
    assert side.rows() == before
    side.close()
