INSERT INTO {table} ({columns}) SELECT {wanted} FROM {rows} AS wanted
