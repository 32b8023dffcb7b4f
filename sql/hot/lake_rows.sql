-- NOT IN rather than an anti-join: DuckDB takes Parquet with a given schema for one row, would build its hash
-- table of all the lake's keys, and is then several times slower. No key is ever NULL.
SELECT {columns}
FROM ({rows}) AS kept
WHERE {key} NOT IN (SELECT {gone} FROM {tombstones})
