INSERT INTO htapkit.imports (
    source, schema_name, table_name, definition, identifier, time_column,
    pin_metadata, pin_snapshot, pin_rows, left_out, why
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
