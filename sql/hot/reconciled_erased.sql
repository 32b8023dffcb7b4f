WITH there AS (
    SELECT place, {keys} FROM {records}
    UNION ALL
    SELECT place, {keys} FROM {cells}
)
SELECT t.place, {keys}
FROM there AS t JOIN (SELECT low FROM {rows} WHERE high IS NULL) AS d ON t.place = d.low
UNION
SELECT t.place, {keys}
FROM there AS t JOIN (SELECT low, high FROM {rows} WHERE high IS NOT NULL) AS d
    ON t.place >= d.low AND t.place < d.high
