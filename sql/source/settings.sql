-- What the preflight needs of the server and of our role.
SELECT current_setting('wal_level'), current_setting('max_replication_slots')::int4,
       current_setting('max_wal_senders')::int4, current_setting('max_slot_wal_keep_size'),
       current_setting('server_encoding'), current_setting('wal_sender_timeout'),
       current_user::text, r.rolsuper, r.rolreplication, r.rolbypassrls,
       coalesce((SELECT pg_has_role(m.oid, 'MEMBER') FROM pg_roles m WHERE m.rolname = 'rds_replication'),
                false),
       has_database_privilege(current_database(), 'CREATE'),
       (SELECT count(*)::int4 FROM pg_replication_slots),
       (SELECT count(*)::int4 FROM pg_stat_replication),
       current_setting('synchronized_standby_slots', true),
       pg_is_in_recovery()
  FROM pg_roles r
 WHERE r.rolname = current_user
