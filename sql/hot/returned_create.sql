-- Rows of the lake that come back: of each place at most one.
CREATE TEMP TABLE {returned} (place BLOB, rank BLOB, cells VARCHAR, ends TIMESTAMPTZ, {columns})
