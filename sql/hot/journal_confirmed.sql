SELECT confirmed FROM htapkit.readers WHERE source = $1 AND reader = $2
