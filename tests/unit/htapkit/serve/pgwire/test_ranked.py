"""Sorting a local result by the source's ranks of texts, against Python's sort."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import cmp_to_key

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htapkit.plan.plan import Ranking, SortKey
from htapkit.serve.pgwire import ranked
from htapkit.serve.pgwire.portal import AtSource

_TYPES = {
    "text": (pa.string(), st.sampled_from(["", "a", "B", "ä", "b", 'q"\\'])),
    "int": (pa.int64(), st.integers(-2, 2)),
    "numeric": (pa.decimal128(9, 2), st.sampled_from([Decimal("-1.50"), Decimal("0.00")])),
    "bool": (pa.bool_(), st.booleans()),
    "date": (pa.date32(), st.sampled_from([date(2026, 1, 1), date(1999, 1, 1)])),
}
_ORDER = str.lower  # of the collation that the source has here: B and b are apart by nothing


def _rank(texts: list[str]) -> list[int]:
    """What PostgreSQL's dense_rank() gives for them."""
    places = sorted({_ORDER(text) for text in texts})
    return [places.index(_ORDER(text)) + 1 for text in texts]


def _body(rank: int) -> bytes:
    """A DataRow of one binary int4."""
    return b"\0\1" + (4).to_bytes(4) + rank.to_bytes(4)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[pa.Table, Ranking]:
    kinds = draw(st.lists(st.sampled_from(sorted(_TYPES)), min_size=1, max_size=4))
    size = draw(st.integers(0, 12))
    columns = [
        pa.array(
            draw(st.lists(st.none() | _TYPES[k][1], min_size=size, max_size=size)), _TYPES[k][0]
        )
        for k in kinds
    ]
    # The last one says which row it was, so that equal keys can be told.
    table = pa.table([*columns, pa.array(range(size), pa.int32())], [*map(str, kinds), "at"])
    chosen = draw(st.permutations(range(len(kinds))))
    keys = [
        SortKey(c, draw(st.booleans()), draw(st.booleans()), kinds[c] if kinds[c] == "text" else "")
        for c in chosen
    ]
    limit, offset = draw(st.none() | st.integers(0, 13)), draw(st.integers(0, 13))
    return table, Ranking((*keys, SortKey(len(kinds), False, False)), 100, limit, offset)


def _compared(keys: tuple[SortKey, ...]) -> Callable[[tuple[object, ...], tuple[object, ...]], int]:
    def compare(left: tuple[object, ...], right: tuple[object, ...]) -> int:
        for key in keys:
            a, b = left[key.column], right[key.column]
            if a is None or b is None:
                sign = (a is None) - (b is None)
                sign = -sign if key.nulls_first else sign
            else:
                if isinstance(a, str) and isinstance(b, str):
                    a, b = _ORDER(a), _ORDER(b)
                sign = (a > b) - (a < b)  # type: ignore[operator]  # both are of one type
                sign = -sign if key.descending else sign
            if sign:
                return -1 if sign < 0 else 1
        return 0

    return compare


@given(_cases())
def test_rows_stand_as_the_source_would_have_them(case: tuple[pa.Table, Ranking]) -> None:
    """Every mix of keys, directions and places of NULL; texts that are equal for the collation."""
    table, ranking = case
    sorting = ranked.sorting(table, ranking, table.num_columns)
    bodies = [
        _body(rank) for encoded in sorting.texts for rank in _rank(encoded.dictionary.to_pylist())
    ]
    got = sorting.rows(ranked.answers(bodies, sorting.questions))
    rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    rows.sort(key=cmp_to_key(_compared(ranking.keys)))
    end = None if ranking.limit is None else ranking.offset + ranking.limit
    expected = rows[ranking.offset : end]
    assert list(zip(*(column.to_pylist() for column in got.columns), strict=True)) == expected


def test_each_text_is_asked_for_once() -> None:
    """NULL is not, and what only sorts is not among the rows."""
    table = pa.table({"n": [1, 2, 3, 4], "t": ["x", None, 'a"', "x"]})
    sorting = ranked.sorting(table, Ranking((SortKey(1, False, False, "sql"),), 100, None, 0), 1)
    (question,) = sorting.questions
    assert (question.sql, question.literal, question.count) == ("sql", b'{"x","a\\""}', 2)
    ranks = ranked.answers([_body(9), _body(3)], sorting.questions)
    assert sorting.rows(ranks).to_pydict() == {"n": [3, 1, 4, 2]}


@pytest.mark.parametrize(
    "bodies", [[_body(1)], [_body(1), b"\0\1\xff\xff\xff\xff"], [_body(1)] * 3]
)
def test_other_ranks_than_asked_for_are_no_answer(bodies: list[bytes]) -> None:
    """The statement goes to the source then."""
    table = pa.table({"t": ["x", "y"]})
    sorting = ranked.sorting(table, Ranking((SortKey(0, False, False, "sql"),), 100, None, 0), 1)
    with pytest.raises(AtSource):
        ranked.answers(bodies, sorting.questions)
