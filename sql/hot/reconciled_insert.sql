-- What is in no record: elements of collections.
INSERT INTO {cells} ({columns})
SELECT {columns}
FROM {rows}
WHERE NOT ({folds})
ORDER BY place
