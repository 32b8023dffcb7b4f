INSERT INTO {new}
SELECT low, high, ordinal, max(rank) AS rank
FROM {old}
GROUP BY low, high, ordinal
