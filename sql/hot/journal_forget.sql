-- What every reader of a source has; all, where there is none.
DELETE FROM htapkit.journal
WHERE source = $1 AND number <= coalesce(
    (SELECT min(confirmed) FROM htapkit.readers WHERE source = $1), number
)
