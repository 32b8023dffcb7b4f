-- What is to leave in a run.
CREATE TEMP TABLE {packing} AS SELECT * EXCLUDE (ends) FROM ({packed})
