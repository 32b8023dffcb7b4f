-- One mark per table that changes with every change of a column: by it, a rewrite that changed values
-- (ALTER … USING) is told from one that did not (VACUUM FULL, CLUSTER, TRUNCATE).
SELECT a.attrelid::int8, md5(string_agg(a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum))
  FROM pg_attribute a
 WHERE a.attrelid = ANY (%(tables)s::oid[]) AND a.attnum > 0
 GROUP BY a.attrelid
