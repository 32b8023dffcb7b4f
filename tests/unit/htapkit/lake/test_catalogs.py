"""Catalogs: a server database instead of SQLite, used by several processes' lakes at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from htapkit.errors import LakeFailed
from htapkit.lake import Lake, LakeSettings
from htapkit.testing.postgres import Database
from tests.unit.htapkit.lake.building import DAY, LAYOUT, ORDERS, TABLE, batch, model, rows_of, run


def settings(database: Database, folder: Path) -> LakeSettings:
    """A SQL catalog on PostgreSQL, and a warehouse given as a plain path."""
    uri = database.dsn.replace("postgresql://", "postgresql+psycopg2://")
    return LakeSettings({"type": "sql", "uri": uri}, str(folder / "warehouse"))


@pytest.mark.integration
def test_a_catalog_on_postgresql(database: Database, tmp_path: Path) -> None:
    """Commits, what is found from elsewhere, and two lakes that commit at the same moment."""
    wanted = settings(database, tmp_path)
    rows = [(n, n * DAY, "x") for n in range(5)]
    with Lake(wanted) as first, Lake(wanted) as second:
        pin = first.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, rows)])
        assert rows_of(second, pin, ORDERS) == model(rows)
        assert second.find(run(1), TABLE) == pin
        assert second.tables() == (TABLE,)
        outcomes: dict[int, object] = {}

        def work(lake: Lake, number: int) -> None:
            try:
                more = [(number, 0, "")]
                outcomes[number] = lake.commit(
                    run(number), ORDERS, LAYOUT, pin, None, [batch(ORDERS, more)]
                )
            except LakeFailed as error:
                outcomes[number] = error

        threads = [
            threading.Thread(target=work, args=(lake, number))
            for lake, number in ((first, 10), (second, 11))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in (10, 11):
            found = first.find(run(number), TABLE)
            assert found is not None, outcomes[number]
            assert rows_of(first, found, ORDERS) == model([*rows, (number, 0, "")])
        first.drop(TABLE)
        assert second.tables() == ()
