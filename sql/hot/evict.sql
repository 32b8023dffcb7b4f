DELETE FROM {table} AS kept
WHERE {range} AND NOT EXISTS (SELECT 1 FROM {touched} AS touched WHERE {equal})
