"""A copy is given up by one thread while another loads its rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from htapkit.errors import CatalogChanged, TableSetAside
from htapkit.hot import HotLimits, HotStore
from htapkit.hot.transactions import Transaction
from tests.unit.htapkit.hot.building import batch_of, covers, position, record_batch, schema_of

T = schema_of()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    limits = HotLimits(memory_bytes=2**29, disk_free_bytes=0)
    with HotStore(tmp_path / "hot.duckdb", limits) as opened:
        yield opened


def test_a_copy_is_given_up_before_everybody_knows(
    store: HotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its relation is gone already, the state does not say so yet: the table is not to blame."""
    store.apply(batch_of(0), covers)
    store.add_table(T, "f")
    store.start_copy(T, "f", position(0))
    reading, gone, failed = threading.Event(), threading.Event(), threading.Event()
    raised: list[Exception] = []

    def rows() -> Iterator[pa.RecordBatch]:
        yield record_batch(T.arrow, [(1, 1, "a")])
        reading.set()
        gone.wait(60)

    def load() -> None:
        try:
            store.load(T.table, rows())
        except (CatalogChanged, TableSetAside) as error:
            raised.append(error)
        failed.set()

    publish = Transaction._publish

    def late(transaction: Transaction) -> None:
        gone.set()
        failed.wait(0.5)  # as long as it does not wait for us
        publish(transaction)

    loader = threading.Thread(target=load)
    loader.start()
    assert reading.wait(60)
    monkeypatch.setattr(Transaction, "_publish", late)
    store.copy_again(T.table, "asked again")
    loader.join(60)
    assert [type(error) for error in raised] == [CatalogChanged]
