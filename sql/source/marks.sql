-- One mark per table that changes with every change of a column: by it, a rewrite that changed values
-- (ALTER … USING) is told from one that did not (VACUUM FULL, CLUSTER, TRUNCATE). A table that is not listed in our
-- publication itself (all tables are in it, or all of a schema) can be unlogged for a while, and then nothing of it
-- is sent: that makes its TOAST table a new one; where it has none, every new file counts.
SELECT c.oid::int8,
       md5(string_agg(a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum)
           || CASE WHEN EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                                 WHERE r.prrelid = c.oid AND p.pubname = ANY (%(publications)s)) THEN ''
                   WHEN c.reltoastrelid <> 0 THEN '/' || c.reltoastrelid
                   ELSE '/' || c.relfilenode END)
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.oid = ANY (%(tables)s::oid[])
 GROUP BY c.oid
