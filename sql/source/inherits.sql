-- Parents and children. `born` = the child was made by CREATE TABLE … PARTITION OF, so it was empty when it
-- joined: its columns were written by the very command that made the table (ATTACH writes each one again).
SELECT i.inhrelid::int8, i.inhparent::int8, i.xmin::text,
       coalesce((SELECT bool_and(a.xmin::text = i.xmin::text AND a.xmax::text = '0')
                        AND min(a.cmin::text::int8) FILTER (WHERE a.attnum > 0)
                          = max(a.cmin::text::int8) FILTER (WHERE a.attnum = -1)
                   FROM pg_attribute a
                  WHERE a.attrelid = i.inhrelid AND (a.attnum = -1 OR a.attnum > 0)), false)
  FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid
 WHERE c.relkind IN ('r', 'p', 'f')
