INSERT INTO htapkit.cuts (
    run, source, flipped_at, run_position,
    schema_name, table_name, time_column, below, pin_metadata, pin_snapshot, pin_rows, position
) VALUES ($1, $2, make_timestamptz(CAST($3 AS BIGINT)), $4, $5, $6, $7, $8, $9, $10, $11, $12)
