-- The hashes tell which keys were there.
DELETE FROM {table} WHERE {key} IN (SELECT {columns} FROM {rows}) RETURNING hash({columns}) AS seen
