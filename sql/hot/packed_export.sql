SELECT {columns} FROM {table} AS kept JOIN {packing} AS leaving ON {equal}
