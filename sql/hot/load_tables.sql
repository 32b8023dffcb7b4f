SELECT
    source, schema_name, table_name, definition, fingerprint, state, why, complete, stopped_at, generation,
    copy_definition, copy_fingerprint, copy_position
FROM htapkit.tables
