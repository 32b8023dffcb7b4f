CREATE TABLE {cells} ({cell_columns});
CREATE TABLE {deletions} (low BLOB, high BLOB, ordinal INTEGER, rank BLOB)
