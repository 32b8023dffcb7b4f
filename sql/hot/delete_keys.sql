DELETE FROM {table} WHERE {key} IN (SELECT {columns} FROM {rows})
