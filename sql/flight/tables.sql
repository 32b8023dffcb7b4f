-- The tables of which the role may read at least one column. $1, $2: LIKE patterns of schema and
-- name, or NULL for all; $3: kinds, separated by commas.
select t.db_schema_name, t.table_name, t.table_type
from (
  select n.nspname::pg_catalog.text as db_schema_name,
         c.relname::pg_catalog.text as table_name,
         case when n.nspname in ('pg_catalog', 'information_schema') then 'SYSTEM ' else '' end
           || case c.relkind when 'r' then 'TABLE' when 'p' then 'TABLE'
                             when 'f' then 'FOREIGN TABLE' when 'm' then 'MATERIALIZED VIEW'
                             else 'VIEW' end as table_type
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'f', 'v', 'm')
    and n.nspname !~ '^pg_(toast|temp_)'
    and pg_catalog.has_schema_privilege(n.oid, 'USAGE')
    and pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
) t
where ($1::pg_catalog.text is null or t.db_schema_name like $1)
  and ($2::pg_catalog.text is null or t.table_name like $2)
  and t.table_type = any (pg_catalog.string_to_array($3::pg_catalog.text, ','))
order by t.db_schema_name collate "C", t.table_name collate "C", t.table_type collate "C"
