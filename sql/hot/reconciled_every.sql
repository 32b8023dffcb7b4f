-- All cells, those of records, too.
SELECT
    place, within, {keys}, cell.ordinal AS ordinal, CAST(NULL AS BLOB) AS path, rank,
    cell.tie AS tie, CASE WHEN gone THEN NULL ELSE cell.value END AS value, expires
FROM (
    SELECT place, within, {keys}, rank, gone, expires, unnest([{folded_cells}]) AS cell
    FROM {held}
)
WHERE cell.value IS NOT NULL
UNION ALL
SELECT place, within, {keys}, ordinal, path, rank, tie, value, expires
FROM {cells}
WHERE {which}
