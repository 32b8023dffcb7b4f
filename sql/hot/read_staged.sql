-- The oldest changes of one table, up to a number of bytes but always at least one.
SELECT seq, kind, commits, payload
FROM htapkit.staged
WHERE source = $1 AND schema_name = $2 AND table_name = $3 AND seq <= (
    SELECT max(seq)
    FROM (
        SELECT seq, sum(size) OVER (ORDER BY seq) - size AS earlier
        FROM htapkit.staged
        WHERE source = $1 AND schema_name = $2 AND table_name = $3
    )
    WHERE earlier < $4
)
ORDER BY seq
