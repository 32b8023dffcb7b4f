-- A sum, so that the order of rows does not matter and digests of disjoint parts can be added.
SELECT count(*), coalesce(sum(CAST(hash({columns}) AS HUGEINT)), 0) FROM {rows} AS kept WHERE {range}
