-- Every row's number in the file, and its key.
SELECT rowid AS row_id, {columns} FROM {table}
