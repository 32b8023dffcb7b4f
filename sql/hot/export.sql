SELECT {columns} FROM {table} WHERE {range} ORDER BY {order}
