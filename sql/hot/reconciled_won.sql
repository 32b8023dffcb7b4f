-- All that is kept, numbered in the order in which it is written anew.
CREATE TEMP TABLE {won} AS
SELECT row_number() OVER (ORDER BY place) AS number, place, within, {keys}, ordinal, path, cell.*
FROM ({winners})
