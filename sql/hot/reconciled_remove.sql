DELETE FROM {table} AS kept
USING (SELECT DISTINCT {keys} FROM {rows}) AS gone
WHERE {equal}
