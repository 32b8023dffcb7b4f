-- Numbers go on from those of all archives, in the order in which rows were taken in.
INSERT INTO {archive} ({columns}, {own})
SELECT {columns}, {moment}, {before} + row_number() OVER ()
FROM {rows}
