-- Rows whose every cell a deletion covers need not come back: they only count no more.
SELECT place, {keys}
FROM {returned}
WHERE
    place IN (
        SELECT r.place
        FROM {returned} AS r JOIN {rows} AS d ON d.low = r.place
        WHERE d.high IS NULL AND d.ordinal IS NULL AND r.rank <= d.rank
        UNION ALL
        SELECT r.place
        FROM {returned} AS r JOIN {rows} AS d ON d.low <= r.place AND r.place < d.high
        WHERE r.rank <= d.rank
    )
