"""A copy by one thread, while another gives it up, or applies changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from htapkit.errors import CatalogChanged, TableSetAside
from htapkit.hot import HotStore
from htapkit.hot.progress import Progress
from htapkit.hot.transactions import Transaction
from tests.unit.htapkit.hot.building import (
    Rows,
    batch_of,
    covers,
    position,
    record_batch,
    schema_of,
)

T = schema_of()


def begin_copy(store: HotStore) -> None:
    """A table that is not followed yet gets an empty copy."""
    store.apply(batch_of(0), covers)
    store.add_table(T, "f")
    store.start_copy(T, "f", position(0))


def test_a_copy_is_given_up_before_everybody_knows(
    store: HotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its relation is gone already, the state does not say so yet: the table is not to blame."""
    begin_copy(store)
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


def test_what_is_applied_while_a_copy_is_swapped_in_stays_stored(
    store: HotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the stream would begin again before what the source was told to forget."""
    begin_copy(store)
    store.load(T.table, [record_batch(T.arrow, [(1, 1, "a")])])
    applier = threading.Thread(
        target=lambda: store.apply(batch_of(5, Rows(T).insert(2, 2, "b").changes()), covers)
    )
    stored_again = Progress.stored_again

    def late(progress: Progress, *given: Any) -> None:
        applier.start()
        applier.join(0.5)  # as long as it does not wait for us
        stored_again(progress, *given)

    monkeypatch.setattr(Progress, "stored_again", late)
    store.finish_copy(T.table, covers)
    applier.join(10)
    assert store.stored_position("shop") == position(5)
