-- What is to leave in a run. What has an end stays: nothing in the lake ever ends by itself.
CREATE TEMP TABLE {packing} AS SELECT * EXCLUDE (ends) FROM ({packed}) WHERE NOT ends
