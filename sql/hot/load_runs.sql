SELECT
    runs.id, runs.source, runs.position, runs.state, runs.why,
    tables.schema_name, tables.table_name, tables.time_column, tables.below
FROM htapkit.runs AS runs
JOIN htapkit.run_tables AS tables ON tables.id = runs.id
ORDER BY runs.rowid
