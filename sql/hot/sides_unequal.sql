-- Keys that one side has and the other has not, or not with the same rows; each side's rows add up to nothing otherwise.
SELECT {keys} FROM (
    SELECT {keys}, 1 AS number, CAST(row AS HUGEINT) AS row FROM {one}
    UNION ALL
    SELECT {keys}, -1, -CAST(row AS HUGEINT) FROM {other}
) AS both_sides
GROUP BY {keys}
HAVING sum(number) <> 0 OR sum(row) <> 0
LIMIT {most}
