-- Asked as JSON, because the columns differ between versions.
SELECT s.database, s.plugin, s.active_pid, s.restart_lsn::text, s.confirmed_flush_lsn::text, s.wal_status,
       s.safe_wal_size,
       CASE WHEN (to_jsonb(s) ->> 'conflicting')::bool OR to_jsonb(s) ->> 'invalidation_reason' IS NOT NULL
            THEN coalesce(to_jsonb(s) ->> 'invalidation_reason', 'invalidated') ELSE '' END
  FROM pg_replication_slots s
 WHERE s.slot_name = %(slot)s
