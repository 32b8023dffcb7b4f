"""Cells of one write as one record: what folds, what does not, and which of equal ranks stays."""

from __future__ import annotations

from itertools import permutations

import pyarrow as pa

from htapkit.hot.folded import Folded
from htapkit.hot.folding import fold
from htapkit.model import cells_arrow
from tests.property.reconciled_model import SCHEMA, A, M, N

FOLDED = Folded(SCHEMA, 1)


def _fold(*cells: dict[str, object]) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """(records without what is None, the rest)."""
    at = {"place": b"p", "rank": b"r", "k0": 1}
    batch = pa.RecordBatch.from_pylist([at | c for c in cells], schema=cells_arrow(SCHEMA))
    records, rest = fold(batch, FOLDED.elements, FOLDED.arrow)
    found = [{k: v for k, v in row.items() if v is not None} for row in records.to_pylist()]
    return found, rest.to_pylist()


def test_of_equal_ranks_the_largest_tie_stays_in_any_order() -> None:
    """A tie that is None is the value itself; the row's own existence has an empty one."""
    writes: list[dict[str, object]] = [
        {"ordinal": N, "value": "9", "tie": b"a"},
        {"ordinal": N, "value": "1", "tie": b"c"},
        {"ordinal": N, "value": "5", "tie": b"b"},
        {"ordinal": A, "value": "x"},
        {"ordinal": A, "value": "y"},
        {"ordinal": None, "value": ""},
    ]
    shared = {"place": b"p", "k0": 1, "rank": b"r", "gone": False}
    for order in permutations(writes):
        records, rest = _fold(*order)
        assert (records, rest) == ([{**shared, "v": "", "v4": "y", "v5": "1", "t5": b"c"}], [])


def test_other_ranks_ends_and_tombstones_are_records_of_their_own() -> None:
    """What one record has only once must be the same for all of its cells."""
    records, _ = _fold(
        {"ordinal": A, "value": "x"},
        {"ordinal": A, "value": None},
        {"ordinal": A, "value": "x", "rank": b"s"},
        {"ordinal": A, "value": "x", "place": b"q"},
        {"ordinal": A, "value": "x", "expires": 5},
        {"ordinal": N, "value": "7", "tie": b"t", "expires": 5},
    )
    assert len(records) == 5
    assert [r for r in records if r["gone"]] == [
        {"place": b"p", "k0": 1, "rank": b"r", "gone": True, "v4": ""}
    ]
    (both,) = (r for r in records if "expires" in r)
    assert (both["v4"], both["v5"], both["t5"]) == ("x", "7", b"t")


def test_elements_and_unknown_columns_do_not_fold() -> None:
    """They stay as they came, also where nothing else did."""
    records, rest = _fold(
        {"ordinal": M, "path": b"e", "value": "1"}, {"ordinal": 99, "value": "later"}
    )
    assert records == []
    assert [(c["ordinal"], c["path"], c["value"]) for c in rest] == [
        (M, b"e", "1"),
        (99, None, "later"),
    ]
