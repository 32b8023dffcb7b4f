-- What became of rows: whether they are new (0), others (1) or gone (2), and how they are now; of what is gone, the key.
SELECT CAST(CASE WHEN was."htapkit there" THEN 1 ELSE 0 END AS TINYINT) AS {op}, {now_columns}
FROM {after} AS now LEFT JOIN (SELECT *, true AS "htapkit there" FROM {before}) AS was ON {equal}
WHERE was."htapkit there" IS NULL OR {differ}
UNION ALL
SELECT CAST(2 AS TINYINT), {gone_columns}
FROM {before} AS was
WHERE NOT EXISTS (SELECT 1 FROM {after} AS now WHERE {equal})
ORDER BY {order}
