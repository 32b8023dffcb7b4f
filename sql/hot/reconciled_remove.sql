DELETE FROM {table} AS kept
USING (
    SELECT DISTINCT {keys} FROM {cells} WHERE place IN (SELECT place FROM {rows})
) AS gone
WHERE {equal}
