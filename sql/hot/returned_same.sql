-- Rows that came back and are what they were.
SELECT r.place
FROM {returned} AS r JOIN ({packed}) AS p ON p.place = r.place
WHERE NOT p.ends AND p.rank = r.rank AND p.cells = r.cells AND {equal}
