-- How the current role can read password verifiers: 'function', 'table' or 'none'.
select case
         when exists (
           select from pg_catalog.pg_proc p
             join pg_catalog.pg_namespace n on n.oid = p.pronamespace
            where n.nspname = 'htapkit' and p.proname = 'verifier' and p.prosecdef
              and p.pronargs = 1 and p.proargtypes[0] = 'pg_catalog.name'::pg_catalog.regtype
              and pg_catalog.has_schema_privilege(n.oid, 'USAGE')
              and pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
         ) then 'function'
         when pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolname', 'SELECT')
          and pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT') then 'table'
         else 'none'
       end
