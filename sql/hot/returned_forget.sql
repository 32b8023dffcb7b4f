DELETE FROM {table} AS kept WHERE EXISTS (SELECT 1 FROM {places} AS same WHERE {equal})
