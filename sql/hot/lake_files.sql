SELECT {columns}
FROM read_parquet([{paths}], schema = MAP {{{fields}}}, hive_partitioning = false)
