-- Why a role may not read these columns of a table from a copy; '' = it may. No row: no such table or role.
-- Row-level security binds everybody but superusers, roles with BYPASSRLS, and the owner without FORCE.
select case
         when not has_schema_privilege(r.oid, n.oid, 'USAGE')
           then format('permission denied for schema %%s', n.nspname)
         when c.relrowsecurity and not (r.rolsuper or r.rolbypassrls)
          and not (pg_has_role(r.oid, c.relowner, 'USAGE') and not c.relforcerowsecurity)
           then format('row-level security on %%s.%%s', n.nspname, c.relname)
         when cardinality(%(columns)s::text[]) = 0 and not has_any_column_privilege(r.oid, c.oid, 'SELECT')
           then format('permission denied for table %%s', c.relname)
         when has_table_privilege(r.oid, c.oid, 'SELECT')
           then ''
         else coalesce((
           select format('permission denied for column %%s of table %%s', wanted.name, c.relname)
             from unnest(%(columns)s::text[]) as wanted (name)
             left join pg_attribute a
               on a.attrelid = c.oid and a.attname = wanted.name and a.attnum > 0 and not a.attisdropped
            where a.attnum is null or not has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')
            limit 1), '')
       end
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_roles r on r.rolname = %(role)s
 where n.nspname = %(schema)s and c.relname = %(name)s
