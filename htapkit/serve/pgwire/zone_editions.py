"""Whether the source and DuckDB mean the same by a time zone, so that DuckDB may compute in it.

Asked are samples every few days from 1850 to 2100, the seconds around each change of the offset
that this machine knows of, and the local times around each hour that a change repeats or skips.
"""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import ZoneInfo

from htapkit.errors import QueryFailed
from htapkit.query import zone_digest
from htapkit.serve.pgwire.zone_offsets import SAMPLES, changes

_QUESTION = """\
SELECT pg_catalog.md5(pg_catalog.string_agg(x::pg_catalog.text, ',' ORDER BY kind, s))
  FROM (SELECT 0 AS kind, s, extract(epoch FROM pg_catalog.timezone(
                 '{zone}', pg_catalog.to_timestamp(s)))::pg_catalog.int8 AS x
          FROM (SELECT s FROM pg_catalog.generate_series({samples}) AS s UNION ALL
                SELECT s FROM pg_catalog.unnest('{{{instants}}}'::pg_catalog.int8[]) AS s) AS a
        UNION ALL
        SELECT 1, s, extract(epoch FROM pg_catalog.timezone(
                 '{zone}', pg_catalog.timezone('UTC', pg_catalog.to_timestamp(s))))::pg_catalog.int8
          FROM (SELECT s FROM pg_catalog.generate_series({samples}) AS s UNION ALL
                SELECT s FROM pg_catalog.unnest('{{{local}}}'::pg_catalog.int8[]) AS s) AS b
       ) AS t"""


def computing_question(zone: ZoneInfo) -> str:
    """For the source: its answer is `computing_answer` if it computes in the zone as DuckDB does.

    It is an error there where the source does not know the zone.
    """
    instants, local = _around(zone)
    return _QUESTION.format(
        zone=zone.key,
        samples=f"{SAMPLES.start}, {SAMPLES.stop - 1}, {SAMPLES.step}",
        instants=",".join(map(str, instants)),
        local=",".join(map(str, local)),
    )


@lru_cache(maxsize=64)
def computing_answer(zone: ZoneInfo) -> str:
    """What the source must answer to `computing_question`; "" where DuckDB has no such zone."""
    instants, local = _around(zone)
    try:
        return zone_digest(zone.key, [*SAMPLES, *instants], [*SAMPLES, *local])
    except QueryFailed:
        return ""


def _around(zone: ZoneInfo) -> tuple[list[int], list[int]]:
    """The instants (s) around the changes of the zone, and the local times around them."""
    instants: list[int] = []
    local: list[int] = []
    for second, before, after in changes(zone):
        instants += [second - 1, second]
        first, last = sorted((second + before, second + after))
        middle = (first + last) // 2
        local += [first - 1, first, first + 1, middle, last - 1, last, last + 1]
    return instants, local
