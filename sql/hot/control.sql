-- What the mirror knows of itself. It lives in the file of the data, so that both change in one transaction.
CREATE SCHEMA IF NOT EXISTS htapkit;
CREATE TABLE IF NOT EXISTS htapkit.format (number INTEGER NOT NULL);
-- One table, so that a read learns all it must know in one scan: a row for each source, and a row for
-- each version of the catalog (`version` alone). The latter are added and never updated: transactions
-- that are open at the same time must not meet in a row.
CREATE TABLE IF NOT EXISTS htapkit.sources (
    source VARCHAR,
    position VARCHAR,
    committed_at TIMESTAMPTZ,
    identity VARCHAR,
    version BIGINT
);
CREATE TABLE IF NOT EXISTS htapkit.tables (
    source VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    definition VARCHAR NOT NULL,       -- columns and key, as JSON
    fingerprint VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    why VARCHAR NOT NULL,
    complete BOOLEAN NOT NULL,         -- the relation holds the table as of some position
    stopped_at VARCHAR,                -- the last position at which it was exact, while it does not follow
    generation BIGINT NOT NULL,        -- counts copies: the shadow's name has it
    copy_definition VARCHAR,           -- of the shadow; NULL: no copy is being made
    copy_fingerprint VARCHAR,
    copy_position VARCHAR
);
CREATE TABLE IF NOT EXISTS htapkit.text_columns (
    source VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    column_name VARCHAR NOT NULL
);
-- Changes of tables that are being copied or are paused, in the order of `seq`.
CREATE TABLE IF NOT EXISTS htapkit.staged (
    seq BIGINT NOT NULL,
    source VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,             -- rows, truncate, schema
    commits VARCHAR NOT NULL,          -- positions, or (position, time) each, as JSON
    size BIGINT NOT NULL,              -- of the payload, in bytes
    payload BLOB
);
-- Where the lake begins: its version and the line below which rows may be there. No row: all is hot.
CREATE TABLE IF NOT EXISTS htapkit.boundaries (
    source VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    time_column INTEGER NOT NULL,      -- ordinal
    below BIGINT NOT NULL,             -- microseconds since 1970
    pin_metadata VARCHAR NOT NULL,
    pin_snapshot BIGINT NOT NULL,
    pin_rows BIGINT NOT NULL,
    position VARCHAR NOT NULL
);
-- How far back tables are kept. No row: nothing was dropped.
CREATE TABLE IF NOT EXISTS htapkit.horizons (
    source VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    time_column INTEGER NOT NULL,      -- ordinal
    since BIGINT NOT NULL              -- microseconds since 1970
);
-- Moves of the boundaries which were begun and are neither finished nor dropped.
CREATE TABLE IF NOT EXISTS htapkit.runs (
    id VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    position VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    why VARCHAR NOT NULL
);
CREATE TABLE IF NOT EXISTS htapkit.run_tables (
    id VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    time_column INTEGER NOT NULL,
    below BIGINT NOT NULL
);
-- The boundaries of all tables of a source, as they were right after each finished run.
CREATE TABLE IF NOT EXISTS htapkit.cuts (
    run VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    flipped_at TIMESTAMPTZ NOT NULL,
    run_position VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    time_column INTEGER NOT NULL,
    below BIGINT NOT NULL,
    pin_metadata VARCHAR NOT NULL,
    pin_snapshot BIGINT NOT NULL,
    pin_rows BIGINT NOT NULL,
    position VARCHAR NOT NULL
);
-- The ranges by key of copies that are made range by range, each read at a position of its own.
CREATE TABLE IF NOT EXISTS htapkit.ranges (
    source VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    generation BIGINT NOT NULL,        -- of the copy
    number INTEGER NOT NULL,           -- in the order of keys, from 0
    token VARCHAR NOT NULL,            -- the connector's own
    rows_estimate BIGINT NOT NULL,
    position VARCHAR,                  -- at which its rows were read; NULL: they are not in the copy
    row_count BIGINT                   -- how many were read; NULL: none; -1: the table's own, which do not count
);
-- Iceberg tables that belong to no source, and the version of each that is read.
CREATE TABLE IF NOT EXISTS htapkit.imports (
    source VARCHAR NOT NULL,           -- lake or history
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    definition VARCHAR NOT NULL,       -- columns, as JSON
    identifier VARCHAR NOT NULL,       -- in the catalog, level by level, as JSON
    time_column INTEGER NOT NULL,      -- ordinal; 0: none
    pin_metadata VARCHAR NOT NULL,
    pin_snapshot BIGINT NOT NULL,
    pin_rows BIGINT NOT NULL,
    left_out VARCHAR NOT NULL,         -- columns that cannot be read, as JSON
    why VARCHAR NOT NULL
);
-- Tables whose deleted rows are kept beside them. While a new copy is made, what the table was before.
CREATE TABLE IF NOT EXISTS htapkit.archived (
    source VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    former_definition VARCHAR,         -- columns and key, as JSON; NULL: there is none
    former_follows BOOLEAN             -- whether changes still come into it
);
-- The last number that a row of an archive was given, when rows of one last left the file; none: never.
CREATE TABLE IF NOT EXISTS htapkit.archive_numbers (last BIGINT NOT NULL);
-- Who is sent what becomes of the rows of reconciled tables, and of which tables.
CREATE TABLE IF NOT EXISTS htapkit.readers (
    source VARCHAR NOT NULL,
    reader VARCHAR NOT NULL,
    confirmed BIGINT NOT NULL          -- the reader has all entries up to this one
);
CREATE TABLE IF NOT EXISTS htapkit.watched (
    source VARCHAR NOT NULL,
    reader VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL
);
-- What became of them, in order. No number is given twice, whatever was removed.
CREATE SEQUENCE IF NOT EXISTS htapkit.journal_numbers;
CREATE TABLE IF NOT EXISTS htapkit.journal (
    number BIGINT NOT NULL,
    source VARCHAR NOT NULL,
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,             -- rows, schema, copied (all of its rows, anew)
    noted_at BIGINT NOT NULL,          -- microseconds since 1970
    size BIGINT NOT NULL,              -- of the payload, in bytes
    payload BLOB NOT NULL
);
