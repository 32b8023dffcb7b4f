-- `rows` has the keys that were to go, and the hashes of those that were in the hot relation.
INSERT INTO {table} ({columns})
SELECT {wanted}
FROM {rows} AS wanted
WHERE
    wanted.seen IS NULL
    AND hash({wanted}) NOT IN (SELECT seen FROM {rows} WHERE seen IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM {table} AS gone WHERE {equal})
