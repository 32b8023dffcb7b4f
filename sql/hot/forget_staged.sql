DELETE FROM htapkit.staged
WHERE source = $1 AND schema_name = $2 AND table_name = $3 AND seq <= $4
