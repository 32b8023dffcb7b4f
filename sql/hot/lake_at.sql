-- As lake_values: the filter comes first and by itself.
WITH near AS MATERIALIZED (SELECT * FROM ({rows}) AS kept WHERE {condition})
SELECT * FROM near WHERE {place} IN (SELECT place FROM {wanted})
