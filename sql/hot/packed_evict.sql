DELETE FROM {table} AS kept WHERE EXISTS (SELECT 1 FROM {leaving} AS leaving WHERE {equal})
