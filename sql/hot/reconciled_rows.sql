-- Plain rows from live cells; what rows share comes from the place that they lie within.
INSERT INTO {table} ({columns})
WITH
{live},
own AS (
    SELECT place, any_value(within) AS within, {any_keys}{own_values}
    FROM live
    GROUP BY place
    UNION ALL
    SELECT place, within, {keys}{alone_values}
    FROM alone
)
SELECT {selected}
FROM own AS o
{shared}
