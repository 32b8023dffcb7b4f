-- Values of a column that cut its rows into parts of equal size, by a sample of the table's pages.
SELECT percentile_disc(%(fractions)s::float8[]) WITHIN GROUP (ORDER BY {column})::text[]
  FROM {table} TABLESAMPLE SYSTEM (%(percent)s)
