-- Rows that came back and are what they were.
SELECT r.place
FROM {returned} AS r JOIN ({packed}) AS p ON p.place = r.place
WHERE p.ends IS NOT DISTINCT FROM r.ends AND p.rank = r.rank AND p.cells = r.cells AND {equal}
