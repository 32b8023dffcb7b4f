-- Of each element the write that counts; the others can never be read again.
CREATE TABLE {new} AS
SELECT
    place, any_value(within) AS within, {any_keys}, ordinal, path, max(rank) AS rank,
    arg_max(struct_pack(value := value), rank).value AS value,
    arg_max(struct_pack(expires := expires), rank).expires AS expires
FROM {cells}
GROUP BY place, ordinal, path
ORDER BY place
