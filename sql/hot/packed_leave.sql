-- What is to leave in a run.
CREATE TEMP TABLE {packing} AS SELECT * FROM ({packed}) WHERE {ends}
