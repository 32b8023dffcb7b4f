-- Parents and children. `born` = the child was made by CREATE TABLE … PARTITION OF, so it was empty when it
-- joined: its columns were written by the very command that made the table (ATTACH writes each one again). Then the
-- column of the parent by whose ranges it is partitioned, 0 where it is not by those of one column, and the bounds.
SELECT i.inhrelid::int8, i.inhparent::int8, i.xmin::text,
       coalesce((SELECT bool_and(a.xmin::text = i.xmin::text AND a.xmax::text = '0')
                        AND min(a.cmin::text::int8) FILTER (WHERE a.attnum > 0)
                          = max(a.cmin::text::int8) FILTER (WHERE a.attnum = -1)
                   FROM pg_attribute a
                  WHERE a.attrelid = i.inhrelid AND (a.attnum = -1 OR a.attnum > 0)), false),
       coalesce(p.partattrs[0], 0)::int4, coalesce(pg_get_expr(c.relpartbound, 0), '')
  FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid
  LEFT JOIN (pg_partitioned_table p JOIN pg_opclass o ON o.oid = p.partclass[0] AND o.opcdefault)
    ON p.partrelid = i.inhparent AND p.partstrat = 'r' AND p.partnatts = 1 AND p.partcollation[0] = 0
 WHERE c.relkind IN ('r', 'p', 'f')
