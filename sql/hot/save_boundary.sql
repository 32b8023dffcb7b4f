INSERT INTO htapkit.boundaries (
    source, schema_name, table_name, time_column, below, pin_metadata, pin_snapshot, pin_rows, position
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
