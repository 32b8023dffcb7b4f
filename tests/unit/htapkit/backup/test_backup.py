"""Backups of a store and a lake: what is in them, what is refused, what a crash leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from htapkit import failpoints
from htapkit.backup import BackupDamaged, back_up, refuse_half_restored, restore
from htapkit.errors import ConfigError, LakeFailed, LakeMissing, StoreError
from htapkit.hot import HotStore
from htapkit.lake import Lake, LakeSettings
from htapkit.model import Layout, RunState, TableId, TieringRun, history_of
from htapkit.query import whole_rows
from tests.unit.htapkit.hot.building import position
from tests.unit.htapkit.hot.lakes import DAY, ROWS, TS, T, at
from tests.unit.htapkit.hot.test_store import follow

OLDER = [(-1, at(-1), "older"), (-2, at(-2), "old")]
HISTORY = history_of(T.table)


class _Died(BaseException):
    """The process is gone."""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Path]:
    """A backup of a table whose first two rows lie in the lake; some older ones are history."""
    data = tmp_path / "data"
    with Lake(LakeSettings.local(data)) as lake, _store(data, lake) as store:
        follow(store, T, ROWS)
        with store.begin_run("a", {T.table: 3 * DAY}, {T.table: TS}) as export:
            rows = export.rows(T.table, ("id",))
            pin = lake.commit(export.run, T, Layout("ts"), None, None, rows)
        store.finish_run("a", {T.table: pin})
        _bring(store, lake, OLDER)
        back_up(store, lake, tmp_path / "backup", _quiet)
    yield tmp_path / "backup"
    failpoints.arm(None)


def _store(data: Path, lake: Lake) -> HotStore:
    settings = LakeSettings.local(data)
    return HotStore(data / "hot.duckdb", warehouse=settings.warehouse, lake=lake)


def _bring(store: HotStore, lake: Lake, rows: Sequence[tuple[object, ...]]) -> None:
    """What a backfill from files does: a commit of rows that the source does not have."""
    run = TieringRun(f"{len(rows)}", HISTORY.source, position(0), {HISTORY: 0}, RunState.EXPORTING)
    batch = pa.RecordBatch.from_pylist(
        [dict(zip(T.arrow.names, row, strict=True)) for row in rows], schema=T.arrow
    )
    base = next((each.pin for each in store.imports.all()), None)
    lake.commit(run, replace(T, table=HISTORY), Layout("ts"), base, None, [batch])
    store.imports.put(lake.look(lake.identifier(HISTORY), HISTORY, T))


def _quiet(_step: str, _done: int, _total: int) -> None:
    return


def _restored(backup: Path, data: Path) -> list[tuple[object, ...]]:
    """The rows that a server on the restored folder has; those of its history are as they were."""
    with Lake(LakeSettings.local(data)) as lake:
        restore(backup, data, lake, _quiet)
    refuse_half_restored(data)
    with Lake(LakeSettings.local(data)) as lake, _store(data, lake) as store:
        assert store.stored_position("shop") == position(0)
        boundary = store.catalog.tables[T.table].boundary
        assert boundary is not None
        assert boundary.pin.rows == 2
        (history,) = store.imports.all()
        assert str(data) in history.pin.metadata
        assert lake.look(history.identifier, HISTORY, T) == history, "it goes on from there"
        assert _rows(store, lake, HISTORY) == sorted(OLDER, key=str)
        return _rows(store, lake, T.table)


def _rows(store: HotStore, lake: Lake, table: TableId) -> list[tuple[object, ...]]:
    with store.moment() as moment:
        batches = moment.batches(whole_rows(lake.files, moment.catalog, table))
        return sorted((tuple(r.values()) for b in batches for r in b.to_pylist()), key=str)


def test_a_backup_comes_back_without_its_origin(made: Path, tmp_path: Path) -> None:
    """Only the folder of the backup is needed; a killed restore left nothing but itself there."""
    shutil.rmtree(tmp_path / "data")
    assert _restored(made, tmp_path / "new") == ROWS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "new"]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _one_bit(path: Path) -> None:
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)


@pytest.mark.parametrize("harm", [_shorter, _one_bit, Path.unlink])
def test_every_damaged_file_is_named(
    made: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """Whichever it is, before anything is written."""
    paths = _files(made)
    assert len(paths) >= 7, "manifest, hot store, metadata, lists, manifests, data"
    for path in paths:
        original = path.read_bytes()
        harm(path)
        with (
            Lake(LakeSettings.local(tmp_path / "new")) as lake,
            pytest.raises(BackupDamaged, match=path.name),
        ):
            restore(made, tmp_path / "new", lake, _quiet)
        assert not (tmp_path / "new").exists()
        path.write_bytes(original)
    assert _restored(made, tmp_path / "new") == ROWS


def test_a_newer_format_is_not_guessed_at(made: Path, tmp_path: Path) -> None:
    """The message says which version is needed."""
    from htapkit.backup import manifest  # noqa: PLC0415 - its checksum is its own business

    path = made / "manifest.json"
    body = json.loads(path.read_text())
    del body["sha256"]
    body["format"] = 2
    path.write_text(json.dumps({**body, "sha256": manifest._checksum(body)}))
    with pytest.raises(BackupDamaged, match="format 2"):
        manifest.read(made)


@pytest.mark.parametrize("name", failpoints.RESTORE)
def test_a_killed_restore_is_begun_again(made: Path, tmp_path: Path, name: str) -> None:
    """Until it has ended, nobody serves the folder."""
    data = tmp_path / "new"

    def die(place: str) -> None:
        if place == name:
            raise _Died

    failpoints.arm(die)
    with Lake(LakeSettings.local(data)) as lake, pytest.raises(_Died):
        restore(made, data, lake, _quiet)
    failpoints.arm(None)
    if name != "restore.checked":
        with pytest.raises(ConfigError, match="has not ended"):
            refuse_half_restored(data)
    assert _restored(made, data) == ROWS


@pytest.mark.parametrize("name", failpoints.BACKUP)
def test_a_killed_backup_is_no_backup(tmp_path: Path, made: Path, name: str) -> None:
    """The folder is not there; the next one takes its place, and leaves nothing beside it."""
    data, target = tmp_path / "data", tmp_path / "second"

    def die(place: str) -> None:
        if place == name:
            raise _Died

    with Lake(LakeSettings.local(data)) as lake, _store(data, lake) as store:
        failpoints.arm(die)
        with pytest.raises(_Died):
            back_up(store, lake, target, _quiet)
        failpoints.arm(None)
        assert not target.exists()
        back_up(store, lake, target, _quiet)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "data", "second"]
    assert _restored(target, tmp_path / "new") == ROWS


def test_a_failed_backup_leaves_nothing(tmp_path: Path, made: Path) -> None:
    """Here a file of the lake is gone; the message names it."""
    data = tmp_path / "data"
    lost = next((data / "warehouse").rglob("*.parquet"))
    lost.unlink()
    with (
        Lake(LakeSettings.local(data)) as lake,
        _store(data, lake) as store,
        pytest.raises(LakeFailed, match=lost.name),
    ):
        back_up(store, lake, tmp_path / "second", _quiet)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "data"]


def test_what_is_there_is_not_written_over(tmp_path: Path, made: Path) -> None:
    """Neither a folder by a backup nor a data_dir by a restore."""
    data = tmp_path / "data"
    with Lake(LakeSettings.local(data)) as lake, _store(data, lake) as store:
        with pytest.raises(ConfigError, match="exists"):
            back_up(store, lake, made, _quiet)
        with pytest.raises(ConfigError, match="is no folder"):
            back_up(store, lake, tmp_path / "no" / "such", _quiet)
        with pytest.raises(ConfigError, match="absolute"):
            back_up(store, lake, Path("here"), _quiet)
        with pytest.raises(ConfigError, match=r"is not empty \(catalog.db, hot.duckdb"):
            restore(made, data, lake, _quiet)


def test_a_folder_that_cannot_be_written_is_named(made: Path, tmp_path: Path) -> None:
    """A file stands where the data_dir should be."""
    (tmp_path / "file").write_text("in the way")
    with (
        Lake(LakeSettings.local(tmp_path / "elsewhere")) as lake,
        pytest.raises(StoreError, match="file/new"),
    ):
        restore(made, tmp_path / "file" / "new", lake, _quiet)


def test_what_comes_after_a_backup_is_not_in_it(made: Path, tmp_path: Path) -> None:
    """Nor is it taken away from the server that goes on."""
    data = tmp_path / "data"
    with Lake(LakeSettings.local(data)) as lake, _store(data, lake) as store:
        _bring(store, lake, [(-3, at(-3), "oldest")])
        assert _restored(made, tmp_path / "new") == ROWS
        assert len(_rows(store, lake, HISTORY)) == len(OLDER) + 1


def test_a_lost_history_is_not_left_out_in_silence(tmp_path: Path, made: Path) -> None:
    """Another engine dropped the table; who drops the import says that it may be gone."""
    data = tmp_path / "data"
    with Lake(LakeSettings.local(data)) as lake, _store(data, lake) as store:
        lake.drop(HISTORY)
        with pytest.raises(LakeMissing, match=r"import --drop history\.shop\.public\.t"):
            back_up(store, lake, tmp_path / "second", _quiet)
        store.imports.drop(HISTORY)
        back_up(store, lake, tmp_path / "second", _quiet)
