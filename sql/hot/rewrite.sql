CREATE TABLE {new} AS SELECT {columns} FROM {table} ORDER BY {order}
