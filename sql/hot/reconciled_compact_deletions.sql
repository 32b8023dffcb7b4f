CREATE TABLE {new} AS
SELECT low, high, ordinal, max(rank) AS rank
FROM {deletions}
GROUP BY low, high, ordinal
