SELECT number, token, rows_estimate, position, row_count
FROM htapkit.ranges
WHERE source = $1 AND schema_name = $2 AND table_name = $3 AND generation = $4
ORDER BY number
