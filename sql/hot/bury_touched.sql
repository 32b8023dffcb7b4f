INSERT INTO {table} ({columns}) SELECT DISTINCT {columns} FROM {rows}
