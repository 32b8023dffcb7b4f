"""What DuckDB makes of a time zone, told so that it can be compared with a source's answer."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from htapkit.errors import QueryFailed

_SQL = """\
SELECT md5(string_agg(CAST(epoch_us(local) // 1000000 AS VARCHAR), ',' ORDER BY kind, s))
FROM (SELECT 0 AS kind, s, timezone($1, make_timestamptz(s * 1000000)) AS local
      FROM (SELECT unnest(CAST($2 AS BIGINT[])) AS s)
      UNION ALL
      SELECT 1, s, CAST(timezone($1, make_timestamp(s * 1000000)) AT TIME ZONE 'UTC' AS TIMESTAMP)
      FROM (SELECT unnest(CAST($3 AS BIGINT[])) AS s)) AS t"""


def zone_digest(zone: str, instants: Sequence[int], local: Sequence[int]) -> str:
    """A digest of the local times of instants and of the instants of local times.

    Both are in seconds since 1970, UTC or local. Raises QueryFailed where there is no such zone.
    """
    try:
        with duckdb.connect(config={"threads": 1, "memory_limit": "256MB"}) as connection:
            row = connection.execute(_SQL, [zone, list(instants), list(local)]).fetchone()
    except duckdb.Error as error:
        raise QueryFailed(f"the time zone {zone}: {error}") from error
    assert row is not None
    return str(row[0])
