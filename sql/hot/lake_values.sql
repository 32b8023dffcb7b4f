-- The filter comes first and by itself: joined directly, DuckDB takes Parquet with a given schema for one row
-- and builds its hash table of the whole lake.
WITH near AS MATERIALIZED (SELECT * FROM ({rows}) AS kept WHERE {condition})
SELECT wanted.number, {columns} FROM {wanted} AS wanted JOIN near AS kept ON {equal}
