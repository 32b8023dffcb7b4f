-- What our role may do with some tables.
SELECT c.oid::int8, has_schema_privilege(c.relnamespace, 'USAGE'), has_table_privilege(c.oid, 'SELECT'),
       pg_has_role(c.relowner, 'USAGE'), c.relrowsecurity AND row_security_active(c.oid),
       pg_get_userbyid(c.relowner)::text
  FROM pg_class c
 WHERE c.oid = ANY (%(tables)s::oid[])
