-- What is shared and has no row to be shared by: a row of its own, as the source shows it.
INSERT INTO {table} ({columns})
WITH
{live},
own AS (
    SELECT place, any_value(within) AS within, {any_keys}{shared_values}
    FROM live
    WHERE within IS NULL AND ordinal IS NOT NULL
    GROUP BY place
)
SELECT {selected}
FROM own AS s
WHERE NOT EXISTS (SELECT 1 FROM {table} AS kept WHERE {same_first})
