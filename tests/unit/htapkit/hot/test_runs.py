"""What the file keeps of boundaries, runs and cuts."""

from __future__ import annotations

from pathlib import Path

from htapkit.hot import HotStore
from tests.unit.htapkit.hot.building import (
    Rows,
    batch_of,
    covers,
    position,
)
from tests.unit.htapkit.hot.lakes import (
    DAY,
    ROWS,
    TS,
    PlainLake,
    T,
    at,
    boundary_of,
    opened,
    tier,
    whole_rows,
    write_run,
)
from tests.unit.htapkit.hot.test_store import follow


def test_all_is_there_after_opening_again(path: Path, lake: PlainLake) -> None:
    with opened(path, lake) as store:
        follow(store, T, ROWS)
        tier(store, lake, T, 2 * DAY, TS)
        boundary = boundary_of(store)
        store.apply(batch_of(1, Rows(T).delete(1).changes()), covers)
        with store.begin_run("b", {T.table: 3 * DAY}, {T.table: TS}) as export:
            pins = write_run(lake, export, [T.table])
        run = export.run
        store.apply(batch_of(2, Rows(T).update(2, at(2), "new").changes()), covers)
    with opened(path, lake) as store:
        assert boundary_of(store) == boundary
        assert store.runs() == (run,)
        assert run.position == position(1)
        assert store.patches(T.table) == (1, 0)
        # Logged before and after the file was opened again.
        store.apply(batch_of(3, Rows(T).insert(5, at(0), "late").changes()), covers)
        store.finish_run("b", pins)
        assert store.patches(T.table) == (2, 2)
        expected = [(2, at(2), "new"), (3, at(3), "three"), (4, None, "four"), (5, at(0), "late")]
        assert whole_rows(store, lake, T) == expected
        cuts = store.cuts("shop")
        assert [c.position for c in cuts] == [position(0), position(1)]
        assert cuts[0].boundaries == {T.table: boundary}
        assert cuts[1].boundaries == {T.table: boundary_of(store)}
        store.drop_cuts("shop", cuts[1].flipped_at)
        assert store.cuts("shop") == cuts[1:]


def test_a_file_of_before_tiering_is_upgraded(path: Path, lake: PlainLake) -> None:
    import duckdb  # noqa: PLC0415 - plays a former version

    with opened(path, lake) as store:
        follow(store, T, ROWS)
    with duckdb.connect(str(path)) as file:
        for name in ("boundaries", "runs", "run_tables", "cuts"):
            file.execute(f"DROP TABLE htapkit.{name}")
    with opened(path, lake) as store:
        tier(store, lake, T, 3 * DAY, TS)
        assert whole_rows(store, lake, T) == ROWS


def test_dropping_a_source_forgets_its_runs_and_cuts(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    tier(store, lake, T, 2 * DAY, TS)
    store.begin_run("b", {T.table: 3 * DAY}, {T.table: TS}).close()
    store.drop_source("shop")
    assert store.runs() == ()
    assert store.cuts("shop") == ()
    follow(store, T, ROWS)
    tier(store, lake, T, 2 * DAY, TS)
    assert whole_rows(store, lake, T) == ROWS
