-- Every table that could be mirrored, and everything that can be a part of one.
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relreplident::text,
       greatest(c.reltuples, 0)::int8, c.relispartition, pg_relation_filenode(c.oid)::int8,
       c.relrowsecurity, c.relnatts::int4
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f')
   AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND n.nspname !~ '^pg_(toast|temp)'
 ORDER BY n.nspname, c.relname
