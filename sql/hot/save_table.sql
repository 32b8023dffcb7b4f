INSERT INTO htapkit.tables (
    source, schema_name, table_name, definition, fingerprint, state, why, complete, stopped_at, generation,
    copy_definition, copy_fingerprint, copy_position
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
