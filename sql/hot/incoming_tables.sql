-- Rows of files with where they stand, the keys that the history has, and those of it that have to go.
CREATE TABLE incoming (htapkit_file INTEGER, htapkit_line BIGINT, {columns});
CREATE TABLE former ({keys});
CREATE TABLE gone ({keys});
