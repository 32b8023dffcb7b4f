DELETE FROM htapkit.cuts
WHERE
    source = $1 AND schema_name = $2 AND table_name = $3
    AND pin_snapshot IS DISTINCT FROM CAST($4 AS BIGINT)
