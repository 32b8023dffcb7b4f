-- As lake_values: the filter comes first and by itself. With the place in it, rows that have one of each wanted
-- column's values, but not those of one place, go no further.
WITH near AS MATERIALIZED (
    SELECT *
    FROM ({rows}) AS kept
    WHERE {condition} AND (kept.{place} IN (SELECT place FROM {wanted})) IS TRUE
)
SELECT * FROM near
