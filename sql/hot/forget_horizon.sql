DELETE FROM htapkit.horizons WHERE source = $1 AND schema_name = $2 AND table_name = $3
