UPDATE htapkit.ranges SET position = $6, row_count = $7
WHERE source = $1 AND schema_name = $2 AND table_name = $3 AND generation = $4 AND number = $5
