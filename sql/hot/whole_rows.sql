-- The rows to take out: of identical rows exactly as many as were deleted. Both sides are compared through
-- expressions that tell apart whatever prints differently (-0.0 from 0.0) and make NULL equal NULL.
SELECT row_id
FROM (
    SELECT kept.rowid AS row_id, gone.copies, row_number() OVER (PARTITION BY gone.number) AS copy
    FROM (
        SELECT *, row_number() OVER () AS number
        FROM (SELECT {gone_columns}, count(*) AS copies FROM {rows} GROUP BY ALL)
    ) AS gone
    JOIN {table} AS kept ON {equal}
)
WHERE copy <= copies
