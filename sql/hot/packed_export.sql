SELECT {columns} FROM {table} AS kept JOIN {leaving} AS leaving ON {equal}
