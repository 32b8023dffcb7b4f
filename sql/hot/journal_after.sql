SELECT coalesce(sum(size), 0) FROM htapkit.journal WHERE source = $1 AND number > $2
