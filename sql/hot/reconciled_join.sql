LEFT JOIN (
    SELECT place{values} FROM live WHERE within IS NULL GROUP BY place
) AS s ON s.place = o.within
WHERE o.within IS NOT NULL
