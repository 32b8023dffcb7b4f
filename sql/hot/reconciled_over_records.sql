-- Their values go, but for that they were written.
UPDATE {records} SET gone = true, expires = NULL, {emptied} WHERE expires <= $1
