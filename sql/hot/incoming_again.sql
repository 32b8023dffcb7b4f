-- Rows whose key stood before leave, and are remembered.
CREATE TABLE again AS SELECT htapkit_file, htapkit_line FROM (
    SELECT htapkit_file, htapkit_line,
        row_number() OVER (PARTITION BY {key} ORDER BY htapkit_file, htapkit_line) AS nth
    FROM incoming
) WHERE nth > 1;
DELETE FROM incoming AS i USING again AS b
WHERE i.htapkit_file = b.htapkit_file AND i.htapkit_line = b.htapkit_line
