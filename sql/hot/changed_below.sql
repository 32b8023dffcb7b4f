SELECT
    EXISTS (SELECT 1 FROM {tombstones}) AS gone,
    EXISTS (SELECT 1 FROM {rows} WHERE {condition}) AS hot
