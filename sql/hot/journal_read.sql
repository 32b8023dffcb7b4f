-- The oldest entries behind one, up to a number of bytes but always at least one.
SELECT number, schema_name, table_name, kind, noted_at, payload
FROM htapkit.journal
WHERE source = $1 AND number > $2 AND number <= (
    SELECT max(number)
    FROM (
        SELECT number, sum(size) OVER (ORDER BY number) - size AS earlier
        FROM htapkit.journal
        WHERE source = $1 AND number > $2
    )
    WHERE earlier < $3
)
ORDER BY number
