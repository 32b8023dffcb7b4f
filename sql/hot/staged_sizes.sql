SELECT source, schema_name, table_name, sum(size), max(seq)
FROM htapkit.staged
GROUP BY ALL
