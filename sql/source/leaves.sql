-- The relations that hold a table's rows, as the snapshot has them, and the file each has right now.
-- Sizes take a lock, which waits behind an ALTER TABLE that waits for one of our readers: 0 instead
-- where they are not wanted.
WITH RECURSIVE parts (oid, kind) AS (
    SELECT c.oid, c.relkind
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT c.oid, c.relkind
      FROM parts p JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid
     WHERE p.kind = 'p'
)
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.relpersistence::text,
       c.relfilenode::int8, coalesce(pg_relation_filenode(c.oid), 0)::int8,
       CASE WHEN %(sizes)s
            THEN coalesce(pg_relation_size(c.oid) / current_setting('block_size')::int8, 0)
            ELSE 0 END,
       c.reltuples::float8, c.relpages::int8,
       coalesce(has_any_column_privilege(c.oid, 'SELECT'), false)
  FROM parts
  JOIN pg_class c ON c.oid = parts.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY c.oid
