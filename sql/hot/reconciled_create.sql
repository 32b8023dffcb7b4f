CREATE TABLE {records} (
    place BLOB USING COMPRESSION zstd, within BLOB, {key_columns},
    rank BLOB USING COMPRESSION zstd, expires BIGINT, gone BOOLEAN, {folded_columns}
);
CREATE TABLE {cells} ({cell_columns});
CREATE TABLE {deletions} (low BLOB, high BLOB, ordinal INTEGER, rank BLOB)
