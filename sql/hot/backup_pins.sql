SELECT DISTINCT source, schema_name, table_name, pin_metadata, pin_snapshot, pin_rows FROM htapkit.boundaries
UNION
SELECT DISTINCT source, schema_name, table_name, pin_metadata, pin_snapshot, pin_rows FROM htapkit.cuts
UNION
SELECT DISTINCT source, schema_name, table_name, pin_metadata, pin_snapshot, pin_rows FROM htapkit.imports
WHERE source = '{history}'
