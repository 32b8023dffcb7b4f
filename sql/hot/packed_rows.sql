-- Rows with the cells that count of each, as the lake keeps them: see htapkit/model/lakecells.py. Losers are left
-- out, and what a deletion covers: deletions stay here, so neither can ever be read again.
WITH
{live},
ranked AS (
    SELECT place, {keys}, ordinal, path, cell, max(cell.rank) OVER (PARTITION BY place) AS top
    FROM counted
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
    FROM ranked AS w JOIN (SELECT {columns} FROM {table} WHERE {range}) AS kept ON {equal}
)
SELECT
    place,
    any_value(top) AS rank,
    string_agg(entry, ';' ORDER BY ordinal NULLS FIRST, path NULLS FIRST) AS cells,
    bool_or(cell.expires IS NOT NULL) AS ends,
    {held}
FROM told
GROUP BY place
