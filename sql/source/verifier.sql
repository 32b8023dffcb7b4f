-- A role's password verifier, by a column grant on pg_authid. The login decides the rest (NOLOGIN, expiry).
select rolpassword
  from pg_catalog.pg_authid
 where rolname = %s
