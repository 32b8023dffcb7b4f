SELECT htapkit_file, htapkit_line FROM (
    SELECT htapkit_file, htapkit_line,
        row_number() OVER (PARTITION BY {key} ORDER BY htapkit_file, htapkit_line) AS nth
    FROM incoming
) WHERE nth > 1 ORDER BY 1, 2
