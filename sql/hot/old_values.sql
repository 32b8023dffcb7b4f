SELECT wanted.number, {columns} FROM {rows} AS wanted JOIN {table} AS kept ON {equal}
