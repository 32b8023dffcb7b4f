-- Those that still count there, each once.
INSERT INTO {returned}
SELECT {columns}
FROM {rows} AS kept
WHERE
    kept.{place} NOT IN (SELECT place FROM {returned})
    AND NOT EXISTS (SELECT 1 FROM {tombstones} AS gone WHERE {equal})
