"""What a batch says of the tables, and what of it is sent."""

from __future__ import annotations

import pytest

from htapkit.feed.parts import Tables, commits_of, take
from htapkit.model import (
    Broken,
    Change,
    ChangeBatch,
    Column,
    Op,
    Position,
    SchemaChange,
    SqlType,
    TableId,
    TableSchema,
    Truncate,
)
from htapkit.sinks import FedTable, Stage
from htapkit.testing.memory import MemoryOrder, RowEvent, position_of, row_changes

TABLE = TableId("mem", "public", "t")
SCHEMA = TableSchema(TABLE, (Column("id", SqlType("int4", 23), 1),), ("id",))
ORDER = MemoryOrder()


def fed(**more: object) -> Tables:
    return {TABLE: FedTable(SCHEMA, "print", Stage.FOLLOWING, begun=True, **more)}  # type: ignore[arg-type]


def insert(key: int, commit: int) -> Change:
    return row_changes(SCHEMA, [RowEvent(TABLE, Op.INSERT, (key,))], commit)


def batch(*changes: Change, complete: bool = True) -> ChangeBatch:
    """Of transactions 1 to 4."""
    commits = tuple(position_of(n) for n in range(1, 5))
    return ChangeBatch("mem", changes, commits, position_of(4), None, complete)


@pytest.mark.parametrize(
    ("change", "stage", "left_out"),
    [
        (Broken(TABLE, "why"), Stage.COPYING, True),
        (Broken(TABLE, "why", copy_again=False), Stage.SET_ASIDE, True),
        (SchemaChange(SCHEMA, faithful=False, why="why", fingerprint="new"), Stage.COPYING, True),
        (SchemaChange(SCHEMA, faithful=False, fingerprint="print"), Stage.FOLLOWING, False),
        (SchemaChange(SCHEMA, faithful=True), Stage.FOLLOWING, False),
    ],
)
def test_news_of_a_table(change: Change, stage: Stage, *, left_out: bool) -> None:
    """Rows before it are sent; behind it only where the table goes on."""
    tables = fed()
    changes, found = take(batch(insert(1, 0), change, insert(2, 1)), tables, ORDER)
    assert found is left_out
    assert tables[TABLE].stage is stage
    assert tables[TABLE].begun, "another copy must begin with a truncate"
    assert len(changes) == (2 if stage is Stage.FOLLOWING else 1)


def test_what_is_in_the_copy_is_left_out() -> None:
    """Rows and truncates up to the copy's position."""
    tables = fed(copied_at=position_of(2))
    given = batch(insert(1, 0), Truncate((TABLE,), 1), insert(3, 2), Truncate((TABLE,), 3))
    changes, _ = take(given, tables, ORDER)
    sent = [c.rows.rows.column(0).to_pylist() if c.rows else c.truncated for c in changes]
    assert sent == [[3], 3]
    assert tables[TABLE].copied_at is None


def test_a_part_of_a_transaction_does_not_pass_the_copy() -> None:
    tables = fed(copied_at=position_of(2))
    take(batch(complete=False), tables, ORDER)
    assert tables[TABLE].copied_at == position_of(2)


def test_all_parts_of_a_transaction_have_one_name() -> None:
    assert [c.position for c in commits_of(batch(), Position("x"))][:2] == ["x", position_of(2)]
