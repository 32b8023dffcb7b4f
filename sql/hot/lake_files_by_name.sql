SELECT {columns}
FROM read_parquet([{paths}], hive_partitioning = false)
