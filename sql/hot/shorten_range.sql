UPDATE htapkit.ranges SET token = $6, rows_estimate = $7, row_count = $8
WHERE source = $1 AND schema_name = $2 AND table_name = $3 AND generation = $4 AND number = $5
