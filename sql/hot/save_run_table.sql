INSERT INTO htapkit.run_tables (id, schema_name, table_name, time_column, below)
VALUES ($1, $2, $3, $4, $5)
