-- Of some tables, those that have more than so many rows, by their size now and the rows per page of the
-- last ANALYZE (60 where there was none).
WITH RECURSIVE parts (root, oid, kind) AS (
    SELECT c.oid, c.oid, c.relkind
      FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS wanted (schema, name)
      JOIN pg_namespace n ON n.nspname = wanted.schema
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT p.root, c.oid, c.relkind
      FROM parts p JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid
     WHERE p.kind = 'p'
), sizes AS (
    SELECT p.root, pg_relation_size(p.oid) / current_setting('block_size')::float8 AS pages,
           CASE WHEN c.reltuples >= 0 AND c.relpages > 0 THEN c.reltuples / c.relpages ELSE 60 END AS per_page
      FROM parts p JOIN pg_class c ON c.oid = p.oid
     WHERE p.kind = 'r'
)
SELECT n.nspname, c.relname, sum(s.pages), sum(s.pages * s.per_page)
  FROM sizes s JOIN pg_class c ON c.oid = s.root JOIN pg_namespace n ON n.oid = c.relnamespace
 GROUP BY n.nspname, c.relname
HAVING sum(s.pages * s.per_page) > %(rows)s
