INSERT INTO htapkit.horizons (source, schema_name, table_name, time_column, since) VALUES ($1, $2, $3, $4, $5)
