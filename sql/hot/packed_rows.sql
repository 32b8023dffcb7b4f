-- Rows with the cells that count of each, as the lake keeps them: see htapkit/model/lakecells.py. Losers are left
-- out, and what a deletion covers: deletions stay here, so neither can ever be read again. A row leaves where all
-- that is there ends at one moment, or never; a tombstone has no end that matters.
WITH
{live},
ending AS (
    SELECT
        *,
        CASE WHEN cell.value IS NOT NULL THEN coalesce(cell.expires, 9223372036854775807) END AS until
    FROM counted
),
ranked AS (
    SELECT
        place, {keys}, ordinal, path, cell,
        max(cell.rank) OVER one AS top, min(until) OVER one AS soonest, max(until) OVER one AS latest
    FROM ending
    WINDOW one AS (PARTITION BY place)
),
told AS (
    SELECT w.*, kept.*, concat_ws(
        ',',
        coalesce(CAST(w.ordinal AS VARCHAR), ''),
        coalesce('x' || hex(w.path), ''),
        CASE WHEN w.cell.rank = w.top THEN '' ELSE 'x' || hex(w.cell.rank) END,
        coalesce('x' || hex(w.cell.tie), ''),
        CASE
            WHEN w.cell.value IS NULL THEN '-'
            WHEN w.path IS NULL AND w.cell.value = {shown} THEN ''
            ELSE 'x' || hex(encode(w.cell.value))
        END
    ) AS entry
    FROM ranked AS w JOIN ({kept}) AS kept ON {equal}
    WHERE w.soonest = w.latest
)
SELECT
    place,
    any_value(top) AS rank,
    string_agg(entry, ';' ORDER BY ordinal NULLS FIRST, path NULLS FIRST) AS cells,
    make_timestamptz(nullif(any_value(soonest), 9223372036854775807)) AS ends,
    {held}
FROM told
GROUP BY place
