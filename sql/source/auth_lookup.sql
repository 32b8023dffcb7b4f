-- Lets the mirror's role read SCRAM verifiers, so that clients log in with the source's own users and passwords.
-- Run once by a superuser in the mirrored database; replace htap by the role of the source's DSN.
-- It never gives out verifiers of superusers, replication roles or expired roles.
create schema if not exists htapkit;

create or replace function htapkit.verifier(role_name name) returns text
  language sql stable strict security definer
  set search_path = pg_catalog, pg_temp
as $$
  select rolpassword
    from pg_catalog.pg_authid
   where rolname = role_name and rolcanlogin and not rolsuper and not rolreplication
     and (rolvaliduntil is null or rolvaliduntil > now())
     and rolpassword like 'SCRAM-SHA-256$%'
$$;

revoke all on function htapkit.verifier(name) from public;
revoke all on schema htapkit from public;
grant usage on schema htapkit to htap;
grant execute on function htapkit.verifier(name) to htap;
