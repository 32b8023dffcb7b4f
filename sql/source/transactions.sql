-- Transactions that a new replication slot waits for, the oldest first; prepared ones have no process.
SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds, ''
  FROM pg_stat_activity
 WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
UNION ALL
SELECT 0, extract(epoch FROM clock_timestamp() - prepared)::float8, gid
  FROM pg_prepared_xacts
 ORDER BY seconds DESC
