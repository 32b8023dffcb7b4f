-- The schemas that the role may look into. $1: a LIKE pattern, or NULL for all.
select n.nspname::pg_catalog.text as db_schema_name
from pg_catalog.pg_namespace n
where ($1::pg_catalog.text is null or n.nspname::pg_catalog.text like $1)
  and n.nspname !~ '^pg_(toast|temp_)'
  and pg_catalog.has_schema_privilege(n.oid, 'USAGE')
order by n.nspname::pg_catalog.text collate "C"
