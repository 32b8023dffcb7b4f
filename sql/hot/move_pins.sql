UPDATE htapkit.{relation} SET pin_metadata = $5
WHERE source = $1 AND schema_name = $2 AND table_name = $3 AND pin_metadata = $4
