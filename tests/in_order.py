"""What a session does with a plan's `ranking`, for tests that run plans by themselves."""

from __future__ import annotations

import psycopg
import pyarrow as pa

from htapkit.plan.plan import LocalQuery
from htapkit.serve.pgwire import ranked


def in_order(made: LocalQuery, table: pa.Table, source: psycopg.Connection) -> pa.Table:
    """The rows of the local result `table`, sorted by the ranks that `source` gives."""
    if made.ranking is None:
        return table
    sorting = ranked.sorting(table, made.ranking, len(made.columns))
    ranks = []
    for asked in sorting.questions:
        result = source.pgconn.exec_params(asked.sql.encode(), [asked.literal])
        assert result.ntuples == asked.count, result.error_message
        values = (result.get_value(row, 0) for row in range(result.ntuples))
        ranks.append(pa.array([int(value or 0) for value in values], pa.int32()))
    return sorting.rows(ranks)
