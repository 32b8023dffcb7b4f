UPDATE htapkit.readers SET confirmed = $3 WHERE source = $1 AND reader = $2 AND confirmed < $3
