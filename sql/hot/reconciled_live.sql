-- The cells that count: of each place and element the one with the largest rank, unless a deletion of a larger
-- rank lies on its place. Of those that are read: the ones that have something and are not over.
asked AS ({asked}),
{alone}
written AS ({winners}),
erased AS (
    SELECT place, max(deletion) AS rank
    FROM (
        SELECT w.place, d.rank AS deletion
        FROM (SELECT DISTINCT place FROM written) AS w
        JOIN (SELECT low, rank FROM {deletions} WHERE high IS NULL AND ordinal IS NULL) AS d
            ON d.low = w.place
        UNION ALL
        SELECT w.place, d.rank
        FROM (SELECT DISTINCT place FROM written) AS w
        JOIN (SELECT low, high, rank FROM {deletions} WHERE high IS NOT NULL) AS d
            ON d.low <= w.place AND w.place < d.high
    )
    GROUP BY place
),
emptied AS (
    SELECT low AS place, ordinal, max(rank) AS rank
    FROM {deletions}
    WHERE ordinal IS NOT NULL AND low IN (SELECT place FROM written)
    GROUP BY low, ordinal
),
counted AS (
    SELECT w.*
    FROM written AS w
    LEFT JOIN erased ON erased.place = w.place
    LEFT JOIN emptied ON emptied.place = w.place AND emptied.ordinal = w.ordinal
    WHERE (erased.rank IS NULL OR w.cell.rank > erased.rank)
        AND (emptied.rank IS NULL OR w.cell.rank > emptied.rank)
),
live AS (
    SELECT w.*, w.cell.value AS value
    FROM counted AS w
    WHERE w.cell.value IS NOT NULL
        AND (w.cell.expires IS NULL OR w.cell.expires > (SELECT max(now) FROM asked))
)
