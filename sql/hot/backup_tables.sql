SELECT schema_name, table_name, sql
FROM duckdb_tables()
WHERE NOT internal AND NOT temporary
ORDER BY schema_name, table_name
