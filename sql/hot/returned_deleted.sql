-- Deletions that are new, of what may be the lake's: nothing of a single place is here, nor was just written.
SELECT DISTINCT new.low, new.high
FROM {rows} AS new
WHERE
    NOT EXISTS (
        SELECT 1
        FROM {deletions} AS old
        WHERE old.low = new.low AND old.high IS NOT DISTINCT FROM new.high
            AND old.ordinal IS NOT DISTINCT FROM new.ordinal AND old.rank >= new.rank
    )
    AND (
        new.high IS NOT NULL
        OR (
            new.low NOT IN (SELECT place FROM {records})
            AND new.low NOT IN (SELECT place FROM {cells})
        )
    )
