-- Their cells, as they were.
INSERT INTO {cells} (place, within, {keys}, ordinal, path, rank, tie, value, expires)
WITH
entries AS (SELECT *, unnest(string_split(cells, ';')) AS entry FROM {returned}),
parts AS (SELECT *, string_split(entry, ',') AS part FROM entries)
SELECT
    place, NULL, {key_values}, CAST(nullif(part[1], '') AS INTEGER),
    CASE WHEN part[2] != '' THEN unhex(substr(part[2], 2)) END,
    CASE WHEN part[3] != '' THEN unhex(substr(part[3], 2)) ELSE rank END,
    CASE WHEN part[4] != '' THEN unhex(substr(part[4], 2)) END,
    CASE part[5]
        WHEN '-' THEN NULL
        WHEN '' THEN {shown}
        ELSE decode(unhex(substr(part[5], 2)))
    END,
    CASE WHEN part[5] != '-' THEN epoch_us(ends) END
FROM parts
