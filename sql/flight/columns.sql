-- The columns of tables, a domain as its base type. $1, $2: LIKE patterns of schema and name, or
-- NULL for all.
with recursive base as (
  select t.oid as of_type, t.oid, t.typtype, t.typbasetype, -1 as typmod
  from pg_catalog.pg_type t
  union all
  select b.of_type, t.oid, t.typtype, t.typbasetype,
         case when b.typmod < 0 then d.typtypmod else b.typmod end
  from base b
  join pg_catalog.pg_type d on d.oid = b.oid
  join pg_catalog.pg_type t on t.oid = b.typbasetype
  where b.typtype = 'd'
)
select n.nspname::pg_catalog.text as db_schema_name,
       c.relname::pg_catalog.text as table_name,
       a.attname::pg_catalog.text as column_name,
       b.oid::pg_catalog.int8 as type_oid,
       case when b.of_type = b.oid then a.atttypmod else b.typmod end as type_modifier,
       not a.attnotnull as nullable
from pg_catalog.pg_attribute a
join pg_catalog.pg_class c on c.oid = a.attrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join base b on b.of_type = a.atttypid and b.typtype <> 'd'
where a.attnum > 0 and not a.attisdropped
  and c.relkind in ('r', 'p', 'f', 'v', 'm')
  and ($1::pg_catalog.text is null or n.nspname::pg_catalog.text like $1)
  and ($2::pg_catalog.text is null or c.relname::pg_catalog.text like $2)
  and pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  and pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
order by a.attrelid, a.attnum
