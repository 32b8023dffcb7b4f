SELECT
    source, schema_name, table_name, time_column, below, pin_metadata, pin_snapshot, pin_rows, position
FROM htapkit.boundaries
