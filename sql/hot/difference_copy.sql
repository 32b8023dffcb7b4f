-- Keys that the source has in the range and the copy elsewhere.
INSERT INTO copy
SELECT {columns} FROM batch AS b
WHERE ({range}) IS NOT TRUE AND EXISTS (SELECT 1 FROM source AS c WHERE {same_key})
