SELECT * FROM {table} WHERE rowid >= {first} AND rowid < {end}
