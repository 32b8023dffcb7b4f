-- What one reader has not confirmed; nothing, where it is not known.
SELECT coalesce(sum(size), 0)
FROM htapkit.journal
WHERE source = $1 AND number > (SELECT confirmed FROM htapkit.readers WHERE source = $1 AND reader = $2)
