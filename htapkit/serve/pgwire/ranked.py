"""A local result in the order of the source's collations: it ranks the different texts.

What is asked, and the sorting by the answers; `answer` sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.plan.plan import Ranking
from htapkit.serve.pgwire.portal import AtSource
from htapkit.serve.pgwire.rows import array_literal
from htapkit.serve.pgwire.rows_codecs import plain, whole

RANKS = pa.schema([("rank", pa.int32())])
"""What the source answers to each question."""

_TEXT = 25
_ROW = np.dtype([("columns", ">i2"), ("bytes", ">i4"), ("rank", ">i4")])


@dataclass(frozen=True, slots=True)
class Question:
    """Texts to be ranked: `sql` with `literal` as its only parameter gives `count` rows."""

    sql: str
    literal: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Sorting:
    """All rows of a result, on their way into their order."""

    table: pa.Table
    width: int  # as many of its columns are the statement's, before those only sorted by
    ranking: Ranking
    texts: Sequence[pa.DictionaryArray]  # of each key that is ranked
    questions: Sequence[Question]

    def rows(self, ranks: Sequence[pa.Array]) -> pa.Table:
        """The statement's rows, sorted, from OFFSET to LIMIT. `ranks` answer the questions."""
        answers = iter(zip(self.texts, ranks, strict=True))
        columns: dict[str, pa.Array] = {}
        order = []
        for number, key in enumerate(self.ranking.keys):
            if key.ranks:
                texts, found = next(answers)
                values = found.take(texts.indices)
            else:
                values = plain(whole(self.table.column(key.column)))
                if pa.types.is_boolean(values.type):
                    values = values.cast(pa.int8())
            if values.null_count:
                place = "descending" if key.nulls_first else "ascending"
                columns[f"null {number}"] = values.is_null().cast(pa.int8())
                order.append((f"null {number}", place))
            columns[f"key {number}"] = values
            order.append((f"key {number}", "descending" if key.descending else "ascending"))
        shown = self.table.select(range(self.width))
        if order:
            shown = shown.take(pc.sort_indices(pa.table(columns), sort_keys=order))
        return shown.slice(self.ranking.offset, self.ranking.limit)


def sorting(table: pa.Table, ranking: Ranking, width: int) -> Sorting:
    """Begin to sort `table`."""
    texts, questions = [], []
    for key in ranking.keys:
        if key.ranks:
            encoded = plain(whole(table.column(key.column))).dictionary_encode()
            texts.append(encoded)
            literal = array_literal(encoded.dictionary, _TEXT)
            questions.append(Question(key.ranks, literal, len(encoded.dictionary)))
    return Sorting(table, width, ranking, texts, questions)


def answers(bodies: Sequence[bytes], questions: Sequence[Question]) -> list[pa.Array]:
    """The ranks, from the bodies of all DataRow messages, of one binary int4 each.

    Raises AtSource where they are not those.
    """
    packed = b"".join(bodies)
    if len(packed) != len(bodies) * _ROW.itemsize or len(bodies) != sum(
        question.count for question in questions
    ):
        raise AtSource("the source gives other ranks than were asked for")
    ranks = pa.array(np.frombuffer(packed, _ROW)["rank"].astype(np.int32))
    found, begin = [], 0
    for question in questions:
        found.append(ranks.slice(begin, question.count))
        begin += question.count
    return found
