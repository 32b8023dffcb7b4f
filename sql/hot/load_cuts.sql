SELECT
    run, source, epoch_us(flipped_at), run_position,
    schema_name, table_name, time_column, below, pin_metadata, pin_snapshot, pin_rows, position
FROM htapkit.cuts
WHERE source = $1
ORDER BY flipped_at, run
