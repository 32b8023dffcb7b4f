"""A table saved and brought back: here or elsewhere, every version, for us and for others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from htapkit.errors import LakeFailed, LakeRefused
from htapkit.lake import Lake, LakeSettings, SavedTable
from htapkit.model import Pin
from tests.unit.htapkit.lake.building import (
    DAY,
    LAYOUT,
    ORDERS,
    TABLE,
    batch,
    keys,
    lake_in,
    model,
    other_engine,
    rows_of,
    run,
)
from tests.unit.htapkit.lake.test_deletes import delete_positions, location_of

FIRST = [(n, n % 3 * DAY, "x") for n in range(30)]
MORE = [(n, n % 5 * DAY, "y") for n in range(25, 40)]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with lake_in(tmp_path / "old") as opened:
        yield opened


def history(lake: Lake) -> list[Pin]:
    """Three versions: added, folded, compacted."""
    pins = [lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])]
    gone = keys(ORDERS, range(25, 30))
    pins.append(lake.commit(run(2), ORDERS, LAYOUT, pins[0], gone, [batch(ORDERS, MORE)]))
    return [*pins, lake.compact(TABLE, pins[1])]


def save(lake: Lake, pins: list[Pin], folder: Path) -> SavedTable:
    saved = lake.save(TABLE, pins, folder, lambda _: None)
    assert saved is not None
    return saved


@pytest.mark.parametrize("to", ["new", "old"])
def test_every_version_comes_back(lake: Lake, tmp_path: Path, to: str) -> None:
    """With the old place gone, at a new one and at the same; and the lake goes on from there."""
    pins = history(lake)
    before = [rows_of(lake, pin, ORDERS) for pin in pins]
    assert before[0] == model(FIRST)
    assert before[1] == before[2] == model(FIRST[:25] + MORE)
    saved = save(lake, pins, tmp_path / "saved")
    lake.close()
    (tmp_path / "old").rename(tmp_path / "gone")
    with lake_in(tmp_path / to) as restored:
        move = restored.bring_back(TABLE, saved, tmp_path / "saved")
        moved = [Pin(move(pin.metadata), pin.snapshot, pin.rows) for pin in pins]
        assert [rows_of(restored, pin, ORDERS) for pin in moved] == before
        found = other_engine(tmp_path / to)
        assert len(found.scan().to_arrow()) == 40
        assert f"/{to}/" in found.metadata.location
        assert str(tmp_path / "gone") not in found.metadata.model_dump_json()
        assert restored.find(run(1), TABLE) is not None
        next_pin = restored.commit(
            run(3), ORDERS, LAYOUT, moved[-1], None, [batch(ORDERS, [(99, DAY, "z")])]
        )
        assert rows_of(restored, next_pin, ORDERS) == before[-1] | model([(99, DAY, "z")])


def test_lengths_in_manifest_lists_are_true(lake: Lake, tmp_path: Path) -> None:
    """Other engines read so many bytes of a manifest as its list says."""
    saved = save(lake, history(lake), tmp_path / "saved")
    with lake_in(tmp_path / "new") as restored:
        restored.bring_back(TABLE, saved, tmp_path / "saved")
    table = other_engine(tmp_path / "new")
    manifests = [m for s in table.metadata.snapshots for m in s.manifests(table.io)]
    assert manifests
    for manifest in manifests:
        path = Path(manifest.manifest_path.removeprefix("file://"))
        assert path.stat().st_size == manifest.manifest_length
        assert "/new/" in manifest.manifest_path


def test_bringing_back_can_be_repeated(lake: Lake, tmp_path: Path) -> None:
    """As after a crash in the middle; but not over another table."""
    pins = history(lake)
    saved = save(lake, pins, tmp_path / "saved")
    with lake_in(tmp_path / "new") as restored:
        for _ in range(2):
            move = restored.bring_back(TABLE, saved, tmp_path / "saved")
        last = Pin(move(pins[-1].metadata), pins[-1].snapshot, pins[-1].rows)
        restored.commit(run(3), ORDERS, LAYOUT, last, None, [batch(ORDERS, [(99, DAY, "z")])])
        with pytest.raises(LakeRefused, match=r"has shop\.public\.orders already"):
            restored.bring_back(TABLE, saved, tmp_path / "saved")


def test_a_lost_data_file_is_named(lake: Lake, tmp_path: Path) -> None:
    """Nothing is left out in silence."""
    pins = history(lake)
    lost = lake.files(TABLE, pins[0], None, None).paths[0]
    Path(lost).unlink()
    with pytest.raises(LakeFailed, match=Path(lost).name):
        lake.save(TABLE, pins, tmp_path / "saved", lambda _: None)


def test_another_engines_deletes_stay_where_they_are(lake: Lake, tmp_path: Path) -> None:
    """Their rows name files by location: restored here, refused elsewhere."""
    pins = [lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])]
    path = location_of(lake, pins[0], 1)
    delete_positions(tmp_path / "old", [(path, 0), (path, 9)], day=1)
    saved = save(lake, pins, tmp_path / "saved")
    with lake_in(tmp_path / "new") as elsewhere:
        with pytest.raises(LakeRefused, match="restore to the same place"):
            elsewhere.bring_back(TABLE, saved, tmp_path / "saved")
        assert elsewhere.tables() == ()
    lake.close()
    shutil.rmtree(tmp_path / "old")
    with lake_in(tmp_path / "old") as here:
        here.bring_back(TABLE, saved, tmp_path / "saved")
    assert len(other_engine(tmp_path / "old").scan().to_arrow()) == 28


def test_there_is_nothing_to_save(tmp_path: Path) -> None:
    with Lake(LakeSettings.local(tmp_path)) as lake:
        assert lake.save(TABLE, (), tmp_path / "saved", lambda _: None) is None
