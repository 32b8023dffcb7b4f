-- Of each element the write that counts; the others can never be read again.
SELECT
    place, any_value(within) AS within, {any_keys}, ordinal, path,
    arg_max(
        struct_pack(rank := rank, tie := tie, value := value, expires := expires),
        rank || {tie}
    ) AS cell
FROM ({every})
GROUP BY place, ordinal, path
