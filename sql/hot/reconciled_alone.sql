-- Records that are all there is at their place, where nothing was deleted: of their cells none has to be decided.
mine AS (SELECT * FROM {records} WHERE {which}),
alone AS (
    SELECT mine.*
    FROM mine
    SEMI JOIN (SELECT place FROM mine GROUP BY place HAVING count(*) = 1) AS single USING (place)
    ANTI JOIN (SELECT place FROM {cells} WHERE {which}) AS beside USING (place)
    ANTI JOIN (SELECT low AS place FROM {deletions} WHERE high IS NULL) AS erased_here USING (place)
    ANTI JOIN (
        SELECT w.place
        FROM (SELECT DISTINCT place FROM mine) AS w
        JOIN (SELECT low, high FROM {deletions} WHERE high IS NOT NULL) AS d
            ON d.low <= w.place AND w.place < d.high
    ) AS erased_over USING (place)
    WHERE NOT gone AND (expires IS NULL OR expires > (SELECT max(now) FROM asked)){rows_only}
),
