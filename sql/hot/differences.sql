-- One row for each key that is not the same on both sides, with the op that mends the copy.
SELECT CAST({insert} AS TINYINT), {source_columns} FROM source AS s ANTI JOIN copy AS c ON {same_key}
UNION ALL
SELECT CAST({update} AS TINYINT), {source_columns} FROM source AS s JOIN copy AS c ON {same_key}
WHERE {different}
UNION ALL
SELECT CAST({delete} AS TINYINT), {copy_columns} FROM copy AS c ANTI JOIN source AS s ON {same_key}
