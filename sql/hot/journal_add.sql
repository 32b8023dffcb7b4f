INSERT INTO htapkit.journal VALUES (nextval('htapkit.journal_numbers'), $1, $2, $3, $4, $5, $6, $7)
