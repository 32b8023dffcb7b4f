SELECT * EXCLUDE (number) FROM {won} WHERE number > $1 AND number <= $2 ORDER BY number
