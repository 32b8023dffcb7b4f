-- Slots of this database whose names begin as those of our readers do, and that nobody reads now.
SELECT s.slot_name::text, coalesce(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), s.restart_lsn), 0)::int8
  FROM pg_replication_slots s
 WHERE s.database = current_database() AND s.plugin = 'pgoutput' AND NOT s.temporary
   AND s.active_pid IS NULL AND NOT pg_is_in_recovery()
   AND starts_with(s.slot_name, %(slot)s || '_') AND s.slot_name <> ALL (%(known)s::text[])
 ORDER BY 1
