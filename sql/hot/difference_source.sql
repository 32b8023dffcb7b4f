-- Of the source, what is in the range, and whatever became of the keys that the copy has there.
INSERT INTO source
SELECT {columns} FROM batch AS b
WHERE ({range}) IS TRUE OR EXISTS (SELECT 1 FROM copy AS c WHERE {same_key})
