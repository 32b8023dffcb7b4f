-- The columns of a table's primary key. $1: schema, or NULL for any; $2: table.
select n.nspname::pg_catalog.text as db_schema_name,
       c.relname::pg_catalog.text as table_name,
       a.attname::pg_catalog.text as column_name,
       k.ordinality::pg_catalog.int4 as key_sequence,
       p.conname::pg_catalog.text as key_name
from pg_catalog.pg_constraint p
join pg_catalog.pg_class c on c.oid = p.conrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join lateral pg_catalog.unnest(p.conkey) with ordinality as k (attnum, ordinality)
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
where p.contype = 'p'
  and ($1::pg_catalog.text is null or n.nspname::pg_catalog.text = $1)
  and c.relname::pg_catalog.text = $2
  and pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  and pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
order by p.conname::pg_catalog.text collate "C", k.ordinality
