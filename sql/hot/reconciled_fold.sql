-- What one write says of one place is one record; of equal ranks the larger tie is kept.
INSERT INTO {records}
SELECT place, any_value(within), {any_keys}, rank, expires, value IS NULL, {folded}
FROM {rows}
WHERE {folds}
GROUP BY place, rank, expires, value IS NULL
ORDER BY place
